//! The faults that the scenarios must find, as replacements in the shipped text.

use crate::mutating::Mutant;

/// The faults of `flight.rs`.
pub(crate) const FLIGHT: &[Mutant] = &[
    Mutant {
        name: "waiter_looks_before_it_registers",
        fault: "a waiter looks at the state before it registers with the signal",
        swaps: &[
            (
                "            let mut signal = pin!(flight.changed.notified());\n            \
                 signal.as_mut().enable();\n",
                "",
            ),
            ("            signal.await;\n", "            pin!(flight.changed.notified()).await;\n"),
        ],
    },
    Mutant {
        name: "lost_leader_is_silent",
        fault: "a leader that is dropped does not signal",
        swaps: &[("        self.seat.flight.changed.notify_one();\n", "")],
    },
    Mutant {
        name: "lost_leader_stays",
        fault: "a leader that is dropped does not vacate the flight",
        swaps: &[("        state.phase = Phase::Vacant;\n", "")],
    },
    Mutant {
        name: "lost_leader_signals_first",
        fault: "a leader that is dropped signals before it vacates",
        swaps: &[
            (
                "        let mut state = self.seat.flight.state.lock();\n        \
                 if matches!(state.phase, Phase::Landed(_)) {\n",
                "        self.seat.flight.changed.notify_one();\n        \
                 let mut state = self.seat.flight.state.lock();\n        \
                 if matches!(state.phase, Phase::Landed(_)) {\n",
            ),
            ("        drop(state);\n        self.seat.flight.changed.notify_one();\n", ""),
        ],
    },
    Mutant {
        name: "landed_leader_vacates",
        fault: "a leader that has landed vacates the flight",
        swaps: &[("matches!(state.phase, Phase::Landed(_))", "false")],
    },
    Mutant {
        name: "landing_signals_one",
        fault: "landing wakes one waiter only",
        swaps: &[("flight.changed.notify_waiters();", "flight.changed.notify_one();")],
    },
    Mutant {
        name: "landing_signals_first",
        fault: "landing wakes the waiters before it has put the result there",
        swaps: &[
            (
                "        flight.state.lock().phase = Phase::Landed(result);\n",
                "        flight.changed.notify_waiters();\n        \
                 flight.state.lock().phase = Phase::Landed(result);\n",
            ),
            ("|| true);\n        flight.changed.notify_waiters();\n", "|| true);\n"),
        ],
    },
    Mutant {
        name: "landing_keeps_the_flight",
        fault: "a landed flight can still be joined",
        swaps: &[(
            "        self.seat.flights.remove(&self.seat.key, &self.seat.sub, &flight, || true);\n",
            "",
        )],
    },
    Mutant {
        name: "detach_does_nothing",
        fault: "a detach is ignored",
        swaps: &[("        self.shard(key).lock().remove(key);\n", "")],
    },
    Mutant {
        name: "removal_takes_any_flight",
        fault: "a flight that ends removes the one that has its place now",
        swaps: &[("known == sub && Arc::ptr_eq(other, flight)", "known == sub")],
    },
    Mutant {
        name: "removal_leaves_the_key",
        fault: "a key without flights stays in the map",
        swaps: &[(
            "            if entry.get().is_empty() {\n                entry.remove();\n            }\n",
            "",
        )],
    },
    Mutant {
        name: "last_seat_does_not_ask_again",
        fault: "the last one to leave removes the flight although somebody has joined since",
        swaps: &[("let empty = || self.flight.state.lock().seats == 0;", "let empty = || true;")],
    },
    Mutant {
        name: "last_seat_leaves_the_flight",
        fault: "the last one to leave leaves the flight behind",
        swaps: &[("        if last {\n", "        if false {\n")],
    },
    Mutant {
        name: "joiner_claims_and_waits",
        fault: "who joins a vacant flight claims it and then waits",
        swaps: &[(
            "return if vacant { Role::Lead(Leader { seat }) } else { Role::Wait(Waiter { seat }) };",
            "return Role::Wait(Waiter { seat });",
        )],
    },
    Mutant {
        name: "joiner_leads_unclaimed",
        fault: "who joins a vacant flight leads it and does not claim it",
        swaps: &[(
            "            if vacant {\n                state.phase = Phase::Flying;\n            }\n",
            "",
        )],
    },
    Mutant {
        name: "waiter_leads_unclaimed",
        fault: "a waiter takes over and does not claim the flight",
        swaps: &[(
            "                    Phase::Vacant => {\n                        \
             state.phase = Phase::Flying;\n                        break;\n",
            "                    Phase::Vacant => {\n                        break;\n",
        )],
    },
    Mutant {
        name: "courses_are_mixed",
        fault: "a flight of another course is joined",
        swaps: &[("flights.iter().find(|(known, _)| known == sub)", "flights.first()")],
    },
    Mutant {
        name: "solo_can_be_joined",
        fault: "a solo flight is put where it can be joined",
        swaps: &[(
            "        Leader { seat: self.seat(key, sub, Flight::new()) }\n",
            "        let flight = Flight::new();\n        self.shard(key).lock()\
             .entry(key.clone()).or_default().push((sub.clone(), Arc::clone(&flight)));\n        \
             Leader { seat: self.seat(key, sub, flight) }\n",
        )],
    },
    Mutant {
        name: "leaders_waiter_is_not_counted",
        fault: "a waiter that the leader hands out takes no seat, and gives one back",
        swaps: &[("        flight.state.lock().seats += 1;\n", "")],
    },
];

/// The faults of `fence.rs`.
pub(crate) const FENCE: &[Mutant] = &[
    Mutant {
        name: "admit_does_not_compare",
        fault: "every ticket with a slot is admitted",
        swaps: &[("is_some_and(|slot| slot.advances == self.advances)", "is_some()")],
    },
    Mutant {
        name: "admit_inserts_unlocked",
        fault: "the insertion runs after the lock is given back",
        swaps: &[(
            "        if holds {\n            insert();\n",
            "        drop(shard);\n        if holds {\n            insert();\n",
        )],
    },
    Mutant {
        name: "advance_changes_first",
        fault: "the change runs before the lock is taken",
        swaps: &[
            (
                "        let mut shard = self.shard(hash).lock();\n        \
                 if let Some(slot) = shard.get_mut(&hash) {\n",
                "        change();\n        let mut shard = self.shard(hash).lock();\n        \
                 if let Some(slot) = shard.get_mut(&hash) {\n",
            ),
            ("        }\n        change();\n", "        }\n"),
        ],
    },
    Mutant {
        name: "advance_changes_unlocked",
        fault: "the change runs after the lock is given back",
        swaps: &[(
            "        }\n        change();\n",
            "        }\n        drop(shard);\n        change();\n",
        )],
    },
    Mutant {
        name: "advance_does_not_count",
        fault: "an invalidation overtakes nothing",
        swaps: &[(
            "            slot.advances += 1;\n        }\n        change();\n",
            "        }\n        change();\n",
        )],
    },
    Mutant {
        name: "capture_counts_one",
        fault: "a second ticket is not counted",
        swaps: &[("slot.tickets += 1;", "slot.tickets = 1;")],
    },
    Mutant {
        name: "drop_takes_the_slot",
        fault: "a dropped ticket removes the slot while others hold tickets",
        swaps: &[("if slot.tickets == 0 {", "if true {")],
    },
    Mutant {
        name: "drop_leaves_the_slot",
        fault: "the last ticket leaves its slot behind",
        swaps: &[("                shard.remove(&self.hash);\n", "")],
    },
    Mutant {
        name: "supersede_does_not_count",
        fault: "a write overtakes nothing",
        swaps: &[(
            "            holds = slot.advances == self.advances;\n            slot.advances += 1;\n",
            "            holds = slot.advances == self.advances;\n",
        )],
    },
    Mutant {
        name: "supersede_always_held",
        fault: "every write is told that it was alone",
        swaps: &[("        change(holds);\n", "        change(true);\n")],
    },
    Mutant {
        name: "supersede_changes_unlocked",
        fault: "a write's change runs after the lock is given back",
        swaps: &[("        change(holds);\n", "        drop(shard);\n        change(holds);\n")],
    },
];

/// The faults of `bus/view.rs`.
pub(crate) const VIEW: &[Mutant] = &[
    Mutant {
        name: "generation_is_read_first",
        fault: "a proof's generation is read before its time",
        swaps: &[(
            "        let until = Duration::from_nanos(self.proven_until.load(Ordering::Acquire));\n        \
             Proof { generation: self.generation(), until: self.start + until }\n",
            "        let generation = self.generation();\n        \
             let until = Duration::from_nanos(self.proven_until.load(Ordering::Acquire));\n        \
             Proof { generation, until: self.start + until }\n",
        )],
    },
    Mutant {
        name: "void_keeps_the_generation",
        fault: "a void begins no generation",
        swaps: &[(
            "        self.proven_until.store(0, Ordering::Release);\n        \
             self.generation.fetch_add(1, Ordering::AcqRel);\n",
            "        self.proven_until.store(0, Ordering::Release);\n",
        )],
    },
    Mutant {
        name: "forget_keeps_the_generation",
        fault: "to forget begins no generation",
        swaps: &[(
            "        let _proofs = self.proofs.lock();\n        \
             self.generation.fetch_add(1, Ordering::AcqRel);\n",
            "        let _proofs = self.proofs.lock();\n",
        )],
    },
    Mutant {
        name: "one_log_proves_all",
        fault: "the proof is that of the log that was heard of last",
        swaps: &[(
            "        let Some(all) = proofs.iter().copied().min().flatten() else { return };\n",
            "        let Some(all) = proofs.iter().copied().max().flatten() else { return };\n",
        )],
    },
];

/// The faults of `tags/table.rs`.
pub(crate) const TABLE: &[Mutant] = &[
    Mutant {
        name: "places_are_counted_first",
        fault: "an invalidation counts its place up before it is counted itself",
        swaps: &[(
            "        self.bumps.fetch_add(1, Ordering::AcqRel);\n        \
             if let Some(count) = self.counts.get(Self::place(tag) as usize) {\n            \
             count.fetch_add(1, Ordering::AcqRel);\n        }\n",
            "        if let Some(count) = self.counts.get(Self::place(tag) as usize) {\n            \
             count.fetch_add(1, Ordering::AcqRel);\n        }\n        \
             self.bumps.fetch_add(1, Ordering::AcqRel);\n",
        )],
    },
    Mutant {
        name: "places_are_not_counted",
        fault: "an invalidation counts no place up",
        swaps: &[(
            "            count.fetch_add(1, Ordering::AcqRel);\n",
            "            let _ = count;\n",
        )],
    },
];
