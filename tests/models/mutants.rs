//! The faults that the models must find, as replacements in the protocol's text.

/// One fault.
pub(crate) struct Mutant {
    /// The name of its module.
    pub(crate) name: &'static str,
    /// What it does wrong.
    pub(crate) fault: &'static str,
    /// Texts that occur once in the shipped file, and what stands there instead.
    pub(crate) swaps: &'static [(&'static str, &'static str)],
}

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
];
