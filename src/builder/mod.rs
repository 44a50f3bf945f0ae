//! Putting a cache together. `build()` checks everything and touches neither network nor runtime.

mod check;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tiered_codecs::{Also, Codec, CodecFor, NoCodec, Packing};
use tiered_tiers::{Clock, LocalTier, RemoteTier};

use crate::{
    DefaultCodec, Error, Tiered,
    bus::Bus,
    fence::Fence,
    flight::Flights,
    key::encode_namespace,
    l2::L2,
    meter::Meter,
    pending::Pending,
    request::Lifetimes,
    restarts::Restarts,
    stack::{DecodeLog, Stack},
    sync::Mutex,
    tags::Tags,
    ttl::Jitter,
    writers::{LocalHolds, Turns},
};

/// A cache being put together; made by [`Tiered::new`], [`Tiered::local`] or [`Tiered::remote`].
#[derive(Debug)]
#[must_use = "a builder does nothing until build() is called"]
pub struct Builder<C> {
    l1: Option<Box<dyn LocalTier>>,
    l2: Option<Arc<dyn RemoteTier>>,
    bus: Option<Arc<dyn tiered_tiers::Bus>>,
    max_staleness: Duration,
    last_resort_for: Duration,
    codec: C,
    name: Option<String>,
    namespace: String,
    namespace_version: u64,
    lifetimes: Lifetimes,
    restarts: Restarts,
    budget: Duration,
    lease_for: Duration,
    hold_for: Duration,
    wait_for: Option<Duration>,
    local_for: Duration,
    load_timeout: Option<Duration>,
    max_entry_bytes: usize,
    max_pending: usize,
    enabled: bool,
    clock: Clock,
}

impl Tiered<DefaultCodec> {
    /// A cache of two tiers: `Tiered::new(Quick::new(100_000), Redis::new(url)?)`.
    #[allow(
        clippy::new_ret_no_self,
        reason = "the project's signature: a cache begins as a builder"
    )]
    pub fn new(l1: impl LocalTier, l2: impl RemoteTier) -> Builder<DefaultCodec> {
        Builder::of(Some(Box::new(l1)), Some(Arc::new(l2)), DefaultCodec::default())
    }

    /// A cache on a server only. Every hit costs a round trip and a decode.
    pub fn remote(l2: impl RemoteTier) -> Builder<DefaultCodec> {
        Builder::of(None, Some(Arc::new(l2)), DefaultCodec::default())
    }
}

impl Tiered<NoCodec> {
    /// A cache in this process only. Its values need nothing of serde.
    pub fn local(l1: impl LocalTier) -> Builder<NoCodec> {
        Builder::of(Some(Box::new(l1)), None, NoCodec)
    }
}

impl<C> Builder<C> {
    fn of(l1: Option<Box<dyn LocalTier>>, l2: Option<Arc<dyn RemoteTier>>, codec: C) -> Self {
        Self {
            l1,
            l2,
            bus: None,
            max_staleness: Duration::from_secs(2),
            last_resort_for: Duration::from_secs(10),
            codec,
            name: None,
            namespace: "tiered".to_owned(),
            namespace_version: 0,
            lifetimes: Lifetimes {
                fresh_for: Duration::from_secs(300),
                stale_for: Duration::ZERO,
                negative_for: Duration::from_secs(30),
                jitter: Jitter::default(),
            },
            restarts: Restarts::default(),
            budget: Duration::from_millis(250),
            lease_for: Duration::from_secs(5),
            hold_for: Duration::from_secs(10),
            wait_for: None,
            local_for: Duration::from_secs(10),
            load_timeout: None,
            max_entry_bytes: 8 << 20,
            max_pending: 65_536,
            enabled: true,
            clock: Clock::system(),
        }
    }

    /// How values become bytes in L2; Postcard unless told. Entries of the other codecs that are
    /// compiled in are read, too, so the codec can be changed over a warm cache.
    pub fn codec<D>(self, codec: D) -> Builder<D> {
        Builder {
            codec,
            l1: self.l1,
            l2: self.l2,
            bus: self.bus,
            max_staleness: self.max_staleness,
            last_resort_for: self.last_resort_for,
            name: self.name,
            namespace: self.namespace,
            namespace_version: self.namespace_version,
            lifetimes: self.lifetimes,
            restarts: self.restarts,
            budget: self.budget,
            lease_for: self.lease_for,
            hold_for: self.hold_for,
            wait_for: self.wait_for,
            local_for: self.local_for,
            load_timeout: self.load_timeout,
            max_entry_bytes: self.max_entry_bytes,
            max_pending: self.max_pending,
            enabled: self.enabled,
            clock: self.clock,
        }
    }

    /// What all keys begin with on the server: `shop` makes `user:1` into `shop:user:1`. The cache
    /// owns every server key that begins so; `tiered` unless told.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Counts up what the namespace holds: with a new version everything that was cached under another one is
    /// out of sight at once, and left to its expiry. Version 2 makes `user:1` into `shop%v2:user:1`, which is
    /// no key of any other namespace; 0, which is the default, leaves it as it is. For tiers
    /// that cannot drop a namespace, and deployments that must not share one.
    pub fn namespace_version(mut self, version: u64) -> Self {
        self.namespace_version = version;
        self
    }

    /// The cache's name in metrics and logs; the namespace unless told.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long entries are fresh, before jitter; 300 s unless told. At least 1 ms.
    pub fn fresh_for(mut self, time: Duration) -> Self {
        self.lifetimes.fresh_for = time;
        self
    }

    /// How long after its freshness an entry may stand in for a failing load, or be served while a
    /// refresh runs behind; nothing unless told.
    pub fn stale_for(mut self, time: Duration) -> Self {
        self.lifetimes.stale_for = time;
        self
    }

    /// How long the answer "there is none" is kept, before jitter; 30 s unless told.
    pub fn negative_for(mut self, time: Duration) -> Self {
        self.lifetimes.negative_for = time;
        self
    }

    /// How lifetimes are spread; shortened by up to 10 % unless told.
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.lifetimes.jitter = jitter;
        self
    }

    /// What entries are worth that the server held before it was restarted or replaced:
    /// [`Strict`](Restarts::Strict) unless told, so none of them is served.
    pub fn restarts(mut self, restarts: Restarts) -> Self {
        self.restarts = restarts;
        self
    }

    /// The time that one read or write may spend on L2, all its operations together and dialling
    /// included; 250 ms unless told.
    pub fn budget(mut self, time: Duration) -> Self {
        self.budget = time;
        self
    }

    /// How long the lease of a load stands without being renewed; 5 s unless told. It is renewed three times in that
    /// time, so a load may take longer, up to twelve times as long. A process that dies in the middle of a load
    /// holds the others up for so long at most, and what it would have stored is refused.
    pub fn lease_for(mut self, time: Duration) -> Self {
        self.lease_for = time;
        self
    }

    /// How long a writer's hold of its keys stands without being renewed; 10 s unless told. It is renewed three times in
    /// that time, so a write may take longer, up to twelve times as long. **The commit must land while the hold
    /// stands**: a process that dies in the middle of a write, or stands still for longer, leaves its keys uncached for so long,
    /// and a commit that lands later still is not noticed. See [`Tiered::invalidate_after`].
    pub fn hold_for(mut self, time: Duration) -> Self {
        self.hold_for = time;
        self
    }

    /// How long a read waits while another process loads its key; as long as `lease_for` unless told. A read that has
    /// a stale value does not wait but serves that; one that has waited so long loads by itself, and stores nothing
    /// in L2. With nothing at all, every process loads for itself.
    pub fn wait_for(mut self, time: Duration) -> Self {
        self.wait_for = Some(time);
        self
    }

    /// Brings invalidations from other processes to this one's L1: `redis.bus()`, say, or a
    /// [`LocalBus`](tiered_tiers::LocalBus) between the caches of one program. All processes that share the namespace
    /// must have one, and the same.
    ///
    /// The first use of the cache starts a task that listens, for each of the bus' logs, in the caller's runtime; it ends with
    /// [`shutdown`](Tiered::shutdown) or the last handle. Every change is then announced before it is acknowledged: one
    /// more round trip. See [`max_staleness`](Self::max_staleness) for what that gives.
    pub fn bus(mut self, bus: impl tiered_tiers::Bus) -> Self {
        self.bus = Some(Arc::new(bus));
        self
    }

    /// With a bus: how long L1 may at most serve a value after another process' invalidation of it was acknowledged,
    /// whatever messages are lost; 2 s unless told, at least 500 ms. An entry for which the bus has proven nothing for so
    /// long is asked for in L2 again. Without a bus see [`local_for`](Self::local_for).
    pub fn max_staleness(mut self, time: Duration) -> Self {
        self.max_staleness = time;
        self
    }

    /// How long L1 may serve what is not proven any more, when L2 gives no answer and the load fails, as a stale value;
    /// 10 s unless told, and never longer than the entry was to be fresh. With nothing at all: never.
    pub fn last_resort_for(mut self, time: Duration) -> Self {
        self.last_resort_for = time;
        self
    }

    /// Without a bus: how long L1 may serve an entry without asking L2, which other processes change too; 10 s
    /// unless told. This bounds how long L1 can miss an invalidation from another process. With a bus
    /// [`max_staleness`](Self::max_staleness) counts.
    pub fn local_for(mut self, time: Duration) -> Self {
        self.local_for = time;
        self
    }

    /// How long a load may take before its callers get [`Error::Timeout`]; no limit unless told.
    pub fn load_timeout(mut self, time: Duration) -> Self {
        self.load_timeout = Some(time);
        self
    }

    /// The largest entry that is stored in or read from L2, envelope included; 8 MiB unless told.
    pub fn max_entry_bytes(mut self, bytes: usize) -> Self {
        self.max_entry_bytes = bytes;
        self
    }

    /// How many invalidations may wait for an unreachable server before its namespace is cleared
    /// instead; 65,536 unless told. A server that cannot be cleared, memcached say, is left alone instead
    /// until the longest life that this cache has stored with is over.
    pub fn max_pending(mut self, keys: usize) -> Self {
        self.max_pending = keys;
        self
    }

    /// Whether the cache works; see [`Tiered::set_enabled`].
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// The clock that entries are judged by: one that a test moves, say.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The cache. Dials nothing: the first operation does. Its metrics go to the recorder that is
    /// installed by now: install it first.
    ///
    /// # Errors
    /// [`Error::Config`] for a configuration that cannot work; the message names the value and the
    /// way out.
    pub fn build(self) -> Result<Tiered<C>, Error>
    where
        C: CodecFor<()>,
    {
        self.check()?;
        let name: Arc<str> = self.name.unwrap_or_else(|| self.namespace.clone()).into();
        let l1_name = self.l1.as_ref().map(|tier| tier.name());
        let l2_name = self.l2.as_ref().map(|tier| tier.name());
        let meter = Arc::new(Meter::new(&name, l1_name, l2_name));
        let namespace = encode_namespace(&self.namespace, self.namespace_version);
        let now = self.clock.now();
        let local_for = match &self.bus {
            Some(_) => Some(self.max_staleness),
            None => self.l2.is_some().then_some(self.local_for),
        };
        let stack = Stack {
            bus: self.bus.map(|bus| Bus::new(bus, &namespace, self.max_staleness, now)),
            namespace,
            local_for,
            last_resort_for: self.last_resort_for,
            budget: self.budget,
            l1: self.l1,
            l2: self.l2.map(|tier| {
                let (meter, name) = (Arc::clone(&meter), Arc::clone(&name));
                let l2 = L2::new(tier, meter, name, self.budget, self.lease_for, self.restarts);
                l2.note_life(self.lifetimes.fresh_for + self.lifetimes.stale_for);
                l2
            }),
            name,
            fence: Fence::new(),
            flights: Flights::new(),
            pending: Pending::new(self.max_pending),
            tags: Tags::default(),
            meter,
            holds: LocalHolds::default(),
            turns: Turns::default(),
            hold_for: self.hold_for,
            clock: self.clock,
            lifetimes: self.lifetimes,
            wait_for: self.wait_for.unwrap_or(self.lease_for),
            restarts: self.restarts,
            load_timeout: self.load_timeout,
            max_entry_bytes: self.max_entry_bytes,
            enabled: AtomicBool::new(self.enabled),
            decode_log: DecodeLog::default(),
            untraced: Mutex::default(),
            tasks: Mutex::default(),
        };
        Ok(Tiered::from_parts(stack, self.codec))
    }
}

impl<C: Packing> Builder<C> {
    /// Also reads what a codec from elsewhere wrote: one that a service is leaving behind.
    pub fn also_reads<D: Codec>(self, old: D) -> Builder<Also<C, D>> {
        let codec = Also::new(self.codec.clone(), old);
        self.codec(codec)
    }
}
