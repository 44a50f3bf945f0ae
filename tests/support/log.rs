//! What was logged, for tests that ask how often.

use std::{
    fmt::Write,
    sync::{Arc, Mutex},
};

use tracing::{Event, Level, Metadata, Subscriber, field, span, subscriber::DefaultGuard};

/// The lines logged on this thread since `capture`, info and above: `"WARN message field=value"`.
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    _guard: DefaultGuard,
}

impl Log {
    pub fn capture() -> Self {
        let lines = Arc::default();
        let collector = Collector(Arc::clone(&lines));
        Self { lines, _guard: tracing::subscriber::set_default(collector) }
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

struct Collector(Arc<Mutex<Vec<String>>>);

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("tiered")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = event.metadata().level().to_string();
        event.record(&mut |field: &field::Field, value: &dyn std::fmt::Debug| {
            write!(line, " {}={value:?}", field.name()).unwrap();
        });
        self.0.lock().unwrap().push(line);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
