//! The faults that the models must find, as replacements in the protocol's text.

use crate::mutating::Mutant;

/// The faults of `record.rs`.
pub(crate) const RECORD: &[Mutant] = &[
    Mutant {
        name: "no_token_check",
        fault: "a fill stores whatever token stands",
        swaps: &[(
            "        let stands = self.is_leased_to(now, token);\n        if stands {\n            \
             self.value",
            "        let stands = true;\n        if stands {\n            self.value",
        )],
    },
    Mutant {
        name: "delete_keeps_the_lease",
        fault: "a delete drops the value and leaves the lease",
        swaps: &[(
            "        (self.value, self.lease) = (None, None);\n",
            "        self.value = None;\n",
        )],
    },
    Mutant {
        name: "renewal_takes_the_lease",
        fault: "a renewal puts its token back",
        swaps: &[
            (
                "        if let Some(lease) = self.lease.as_mut().filter(|_| stands) {\n            \
             lease.end = end;\n        }\n",
                "        self.lease = Some(Until { what: token.clone(), end });\n",
            ),
            ("K: PartialEq, T: PartialOrd", "K: Clone + PartialEq, T: PartialOrd"),
        ],
    },
    Mutant {
        name: "single_hold_slot",
        fault: "there is one place for holds, and who comes takes it",
        swaps: &[(
            "            let overlapped = !self.holds.is_empty();\n            self.overlap();\n",
            "            let overlapped = !self.holds.is_empty();\n            self.holds.clear();\n",
        )],
    },
    Mutant {
        name: "leases_on_hold",
        fault: "a key that a writer holds is leased",
        swaps: &[(
            "        if self.is_on_hold(now) {\n            return Granted::OnHold;\n        }\n",
            "",
        )],
    },
    Mutant {
        name: "delete_leaves_holders_alone",
        fault: "a delete is forgotten by those who hold the key",
        swaps: &[(
            "    pub fn delete(&mut self) {\n        self.drop_both();\n        self.overlap();\n",
            "    pub fn delete(&mut self) {\n        self.drop_both();\n",
        )],
    },
    Mutant {
        name: "end_leaves_holders_alone",
        fault: "the end of a hold that was lost is forgotten by those who hold the key",
        swaps: &[(
            "        // Also where this one is lost: its writer wrote all the same.\n        self.overlap();\n",
            "",
        )],
    },
    Mutant {
        name: "holds_do_not_overlap",
        fault: "a hold is forgotten by those who held before",
        swaps: &[(
            "            let overlapped = !self.holds.is_empty();\n            self.overlap();\n",
            "            let overlapped = !self.holds.is_empty();\n",
        )],
    },
    Mutant {
        name: "later_hold_is_alone",
        fault: "a hold takes itself for alone though others stand",
        swaps: &[("let overlapped = !self.holds.is_empty();", "let overlapped = false;")],
    },
    Mutant {
        name: "renewed_hold_is_alone",
        fault: "a hold that had run out is renewed as if it had been alone",
        swaps: &[("end, overlapped: true });", "end, overlapped: false });")],
    },
    Mutant {
        name: "end_keeps_the_value",
        fault: "the end of a hold leaves what was stored meanwhile",
        swaps: &[(
            "        self.drop_both();\n        self.holds.retain(|hold| now < hold.end);\n        let own = self.holds.iter().position",
            "        self.holds.retain(|hold| now < hold.end);\n        let own = self.holds.iter().position",
        )],
    },
    Mutant {
        name: "overlapped_gets_a_lease",
        fault: "a lease follows a hold that was not alone",
        swaps: &[(
            "Some(own) if own.overlapped => HoldEnd::Overlapped,",
            "Some(own) if false => HoldEnd::Overlapped,",
        )],
    },
];

/// The faults of `follower.rs`.
pub(crate) const FOLLOWER: &[Mutant] = &[
    Mutant {
        name: "start_at_the_end",
        fault: "it starts at `$`: what came before the log was opened counts as known",
        swaps: &[("Ok((Some(Void::Opened), Vec::new(), true))", "Ok((None, Vec::new(), true))")],
    },
    Mutant {
        name: "gaps_are_skipped",
        fault: "a message is taken whatever its predecessor is",
        swaps: &[(
            "            if link.previous != last {\n                return Err(Void::Gap);\n            }\n",
            "",
        )],
    },
    Mutant {
        name: "head_is_not_compared",
        fault: "an answer counts whatever the head of the log is",
        swaps: &[("if !polled.has_more && head != last {", "if false {")],
    },
    Mutant {
        name: "no_head_is_nothing_new",
        fault: "a log without a head has nothing new",
        swaps: &[(
            "        let head = polled.head.ok_or(Void::Headless)?;\n        let mut messages",
            "        let Some(head) = polled.head else {\n            \
             self.state = State::Open { at, last, run };\n            \
             return Ok((None, Vec::new(), true));\n        };\n        let mut messages",
        )],
    },
    Mutant {
        name: "run_is_not_compared",
        fault: "a log of another run of the server is followed on",
        swaps: &[("if polled.run != run {", "if false {")],
    },
    Mutant {
        name: "a_cut_answer_counts",
        fault: "an answer that was cut counts as whole",
        swaps: &[("Ok((None, messages, !polled.has_more))", "Ok((None, messages, true))")],
    },
];

/// The faults of `tags.rs`.
pub(crate) const TAGS: &[Mutant] = &[
    Mutant {
        name: "generation_before_epoch",
        fault: "an invalidation changes the generation, and then the epoch",
        swaps: &[("= [Self::Epoch, Self::Generation];", "= [Self::Generation, Self::Epoch];")],
    },
    Mutant {
        name: "epoch_is_not_compared",
        fault: "a load that reveals its tags is kept under any epoch",
        swaps: &[("self.generations.filter(|_| self.epoch == *epoch)", "self.generations")],
    },
    Mutant {
        name: "generation_of_any_run",
        fault: "a generation that comes back with an old server is believed",
        swaps: &[("(self.run == present).then_some(self.token)", "Some(self.token)")],
    },
];
