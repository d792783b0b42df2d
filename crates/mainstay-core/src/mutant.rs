//! Rules of the protocol that can be taken away, to prove that each of them is needed.
//!
//! Tests build core with the feature `mutants` and remove one rule at a time: a checker or a
//! scenario must then find a counter-example, or the build fails. Without the feature the set is
//! empty, has no size, and every question is answered `false` at compile time.

/// A rule of `docs/protocol.md`, named by what is done instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Mutant {
    /// The holder times its lease from the grant's receipt, not from sending its report.
    LeaseFromReceipt,
    /// A grant is accepted for whatever report.
    GrantWithoutNonce,
    /// A new controller grants at once.
    NoSilenceAfterTakeover,
    /// The granter keeps a record for the lease alone, without the drift allowance.
    RecordWithoutDrift,
    /// A record counts as its last grant, not as its largest.
    RecordIsLastGrant,
    /// Clock drift is not watched.
    DriftUnwatched,
    /// A refusal may raise what is held.
    RefusalRaisesCredit,
    /// Workers take work of any epoch.
    WorkersIgnoreEpochs,
    /// A controller believes in its lease of a site without the workers' answer.
    OneWayControllerLease,
    /// A publisher writes without comparing generations.
    PublishWithoutCompare,
    /// An empty answer set is published as it is.
    EmptySetPublished,
    /// Old generations are deleted by age alone.
    CollectByAge,
    /// A generation is good when loaded, not after it ran clean.
    GoodAtLoad,
    /// Content that crashed a process is loaded again.
    CrashForgotten,
    /// Who sends an order judges what stays in service.
    InServiceBySender,
    /// Orders apply in the order of their arrival.
    OrdersByArrival,
    /// Indirect evidence may remove any share of capacity.
    ProbesUncapped,
    /// Only DOWN counts as a departure.
    LatchCountsOnlyDown,
    /// Nothing latches.
    NoLatch,
    /// Overload counts as a strike.
    OverloadIsStrike,
    /// A failed probe keeps a site from returning.
    ProbeVetoesReturn,
    /// No gateway doubts itself.
    NoSelfDoubt,
    /// Panic opens admission too.
    PanicOpensAdmission,
    /// Retries are not rationed.
    NoRetryBudget,
    /// What an attempt given up still says is relayed.
    OldAttemptUnfenced,
    /// Both racers write a request's outcome.
    OutcomeByBoth,
    /// A returning site takes its full share at once.
    NoRamp,
    /// Queued work past its deadline is still done.
    NoDeadlineDrop,
    /// Higher tiers may take everything.
    NoFloors,
    /// A new quota home grants at once.
    NewHomeGrants,
    /// The scheduler sends a worker whatever there is (K1).
    WorkerCreditUnbounded,
    /// Legs of a worker's former life stay (K5).
    LivesMixed,
    /// A tier gets no more than its weight (K6).
    TierFloorsIgnored,
    /// Tenants of a tier are served by deadline alone.
    TenantsUncounted,
    /// A first token is waited for without end (K8).
    SilenceUnwatched,
    /// No leg gives way at its worker, however late a higher tier is.
    NothingGivesWay,
}

/// Which rules are taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mutants {
    #[cfg(feature = "mutants")]
    removed: u64,
}

impl Mutants {
    /// Nothing is taken away.
    pub const NONE: Mutants = Mutants {
        #[cfg(feature = "mutants")]
        removed: 0,
    };

    /// Everything without this rule.
    #[cfg(feature = "mutants")]
    pub const fn without(rule: Mutant) -> Mutants {
        Mutants { removed: 1 << rule as u8 }
    }

    /// Whether this rule is taken away.
    #[inline]
    pub const fn removes(self, rule: Mutant) -> bool {
        #[cfg(feature = "mutants")]
        return self.removed & (1 << rule as u8) != 0;
        #[cfg(not(feature = "mutants"))]
        {
            let _ = rule;
            false
        }
    }
}
