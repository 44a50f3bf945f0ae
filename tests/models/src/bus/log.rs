//! The log's server: what it has, what it loses, and how it comes back.

use tiered_tiers::{
    Incarnation,
    protocol::{Ask, Log, Polled},
};

use crate::Token;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Server {
    log: Log<bool, Token>,
    saved: Option<Log<bool, Token>>,
    run: u8,
    /// The tokens that were drawn.
    drawn: Token,
    /// Messages on their way whose sender has sent another.
    pub(super) late: u8,
    /// How many there were.
    pub(super) repeats: u8,
    /// How many were for another key.
    pub(super) others: u8,
    pub(super) losses: u8,
    pub(super) restarts: u8,
}

impl Server {
    pub(super) fn new(kept: usize) -> Self {
        let log = Log::new(kept);
        Self {
            log,
            saved: None,
            run: 0,
            drawn: 0,
            late: 0,
            repeats: 0,
            others: 0,
            losses: 0,
            restarts: 0,
        }
    }

    pub(super) fn is_saved(&self) -> bool {
        self.saved.is_some()
    }

    pub(super) fn append(&mut self, is_for_key: bool) {
        let origin = if self.has_head() { 0 } else { self.draw() };
        let token = self.draw();
        self.log.append(is_for_key, token, origin);
    }

    /// Answers, as of now.
    pub(super) fn answer(&mut self, ask: Ask, piece: usize) -> Polled<bool, Token> {
        let mut polled = match ask {
            Ask::Open => {
                let fresh = if self.has_head() { 0 } else { self.draw() };
                self.log.open(fresh)
            }
            Ask::After(at) => self.log.poll(at, piece),
        };
        polled.run = Some(Incarnation::new(u64::from(self.run) + 1));
        polled
    }

    pub(super) fn lose(&mut self, messages: bool, head: bool) {
        self.log.lose(messages, head);
        self.losses += 1;
    }

    pub(super) fn save(&mut self) {
        self.saved = Some(self.log.clone());
    }

    pub(super) fn restart(&mut self, old: bool, kept: usize) {
        self.log = self.saved.take().filter(|_| old).unwrap_or_else(|| Log::new(kept));
        self.run += 1;
        self.restarts += 1;
    }

    fn has_head(&self) -> bool {
        self.log.poll(Default::default(), 0).head.is_some()
    }

    fn draw(&mut self) -> Token {
        self.drawn += 1;
        self.drawn
    }
}
