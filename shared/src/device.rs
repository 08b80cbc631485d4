//! A device's state, and the decision about an attempt. Pure: `now`, the matches and the write's id come in.
//!
//! All state that a verdict depends on is in [`Device`], so that one conditional write of it settles everything. A
//! [`Decision::Write`] is not a verdict yet: it becomes one when its write has taken effect, and only then.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::names::{AuthId, DeviceKey, Owner, SeedRef, WriteId};
use crate::otp::{Matches, OfferKind, OtpParameters, Period, Step};
use crate::policy::Policy;
use crate::sealed::SealedSeed;

/// Whether a device may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Registered; the first code has not been seen yet.
    ActivationRequired,
    /// In use.
    Active,
    /// Disabled by an operator.
    Disabled,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::ActivationRequired, Self::Active, Self::Disabled];

    /// The written form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ActivationRequired => "ACTIVATION_REQUIRED",
            Self::Active => "ACTIVE",
            Self::Disabled => "DISABLED",
        }
    }

    /// From the written form.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == raw)
    }
}

/// A success that is remembered, so that its authId cannot succeed again and its own write can be recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Accepted {
    /// The authId that succeeded.
    pub auth_id: AuthId,
    /// The write that made it succeed.
    pub write_id: WriteId,
    /// When the authId expires.
    pub expires_at: Timestamp,
}

/// Wrong single codes of one authId.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Failing {
    /// The authId.
    pub auth_id: AuthId,
    /// How many wrong single codes it had.
    pub count: u32,
}

/// The last write of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LastWrite {
    /// Which write it was.
    pub write_id: WriteId,
    /// The authId it decided about.
    pub auth_id: AuthId,
    /// What it decided.
    pub verdict: Verdict,
}

/// The result of an attempt. It is given to the client only after the write that counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The user holds the device.
    Accepted,
    /// A single code of the window whose step, or a later one, was used before.
    Replayed,
    /// Anything else.
    Rejected,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 3] = [Self::Accepted, Self::Replayed, Self::Rejected];

    /// The written form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "ACCEPTED",
            Self::Replayed => "REPLAYED",
            Self::Rejected => "REJECTED",
        }
    }

    /// From the written form.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == raw)
    }
}

/// All state of a device that a verdict depends on, as the table holds it and as an auth's snapshot holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Device {
    /// Random at registration, incremented by every write; conditional writes compare it.
    pub version: u64,
    /// Whether it may be used.
    pub status: Status,
    /// Where its seed is.
    pub seed_ref: SeedRef,
    /// The seed itself, if it is sealed. No verdict depends on it, and none writes it.
    pub sealed: Option<SealedSeed>,
    /// How its codes are made.
    pub parameters: OtpParameters,
    /// The last accepted step; only a higher one is accepted.
    pub last_step: Step,
    /// Recent successes, oldest first.
    pub accepted: Vec<Accepted>,
    /// The authIds that failed last, newest first, at most [`Policy::REMEMBERED_FAILING`].
    pub failing: Vec<Failing>,
    /// The last write of a verdict.
    pub last_write: Option<LastWrite>,
    /// Consecutive wrong single codes.
    pub consecutive_failures: u32,
    /// Wrong attempts ever.
    pub total_failures: u64,
    /// The ladder: single codes are refused before it.
    pub not_before: Timestamp,
    /// The long-run budget of single codes (GCRA: the theoretical arrival time).
    pub budget_at: Timestamp,
    /// The rate of pairs (GCRA: the theoretical arrival time).
    pub pair_at: Timestamp,
    /// Members of the stored state that a later release added.
    pub carried: Carried,
}

/// Members of a stored state that this release does not know, kept as they are in every write and snapshot. No verdict
/// depends on them.
pub type Carried = BTreeMap<String, CarriedValue>;

/// A value that is carried along unread.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "a value is what its variant says")]
pub enum CarriedValue {
    Null,
    Flag(bool),
    Number(String),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<CarriedValue>),
    Members(Carried),
}

/// What an authId refers to: an authentication of one device, open for attempts until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// The authId.
    pub id: AuthId,
    /// The device, and with it the owner whose clients may use the authId.
    pub key: DeviceKey,
    /// When it was issued; whole seconds.
    pub issued_at: Timestamp,
    /// When it expires; whole seconds. Deletion by TTL lags, so this is always compared.
    pub expires_at: Timestamp,
    /// The device as it was read then.
    pub device: Device,
}

impl Auth {
    /// Whether it belongs to an owner. To another one it does not exist.
    #[must_use]
    pub fn belongs_to(&self, owner: &Owner) -> bool {
        self.key.owner == *owner
    }
}

/// Why an attempt was not evaluated: no verdict, no write, nothing counted, and the offered code stays unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The authId has expired.
    Expired,
    /// The authId has succeeded before.
    AlreadyUsed,
    /// The device was disabled.
    Disabled,
    /// The device was not activated.
    NotActive,
    /// The authId had its wrong codes.
    Exhausted,
    /// Single codes are refused now; two consecutive codes are not.
    TwoCodesRequired {
        /// When single codes are allowed again, if time alone does it.
        single_codes_at: Option<Timestamp>,
    },
    /// Pairs came too fast.
    TooManyPairs {
        /// When the next pair is evaluated.
        pairs_at: Timestamp,
    },
}

/// One attempt, as [`decide`] sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The authId that it came with.
    pub auth_id: AuthId,
    /// When the authId expires.
    pub expires_at: Timestamp,
    /// Identity of the write, should one be made.
    pub write_id: WriteId,
    /// Which steps the offered code or codes match.
    pub matches: Matches,
}

/// What to do about an attempt.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and a box would be one more allocation"
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Nothing is written; this is the answer.
    Refuse(Refusal),
    /// Write `device` over the state that was decided on; give `verdict` once that took effect.
    Write {
        /// The verdict to give after the write.
        verdict: Verdict,
        /// The new state.
        device: Device,
    },
}

impl Device {
    /// A newly registered device: nothing used, nothing failed, every gate open. The version is random, so that a write
    /// for an earlier device of the same name never matches this one.
    #[must_use]
    pub const fn registered(version: u64, status: Status, seed_ref: SeedRef, parameters: OtpParameters) -> Self {
        Self {
            version,
            status,
            seed_ref,
            sealed: None,
            parameters,
            last_step: Step(0),
            accepted: Vec::new(),
            failing: Vec::new(),
            last_write: None,
            consecutive_failures: 0,
            total_failures: 0,
            not_before: Timestamp::EPOCH,
            budget_at: Timestamp::EPOCH,
            pair_at: Timestamp::EPOCH,
            carried: Carried::new(),
        }
    }

    /// When single codes are evaluated again: now or earlier if they are; `None` if time alone does not open them.
    #[must_use]
    pub fn single_codes_at(&self, policy: &Policy) -> Option<Timestamp> {
        let opens = self.not_before.max(self.budget_at.minus(policy.single_slack()));
        (self.consecutive_failures < Policy::MOST_CONSECUTIVE).then_some(opens)
    }

    /// Whether a single code is evaluated now.
    #[must_use]
    pub fn single_codes_open(&self, now: Timestamp, policy: &Policy) -> bool {
        self.single_codes_at(policy).is_some_and(|opens| opens <= now)
    }

    /// When the next pair is evaluated: now or earlier if it is.
    #[must_use]
    pub fn pairs_at(&self, policy: &Policy) -> Timestamp {
        self.pair_at.minus(policy.pair_slack())
    }

    /// The beginning of the first step of a length that is not used up.
    #[must_use]
    pub fn used_until(&self, period: Period) -> Timestamp {
        last_step_in(self, period).next().start(period)
    }

    /// Wrong single codes of one authId, as far as they are remembered.
    #[must_use]
    pub fn failures_of(&self, auth_id: AuthId) -> u32 {
        self.failing
            .iter()
            .find(|entry| entry.auth_id == auth_id)
            .map_or(0, |entry| entry.count)
    }

    /// Single codes that an authId has left before it is exhausted.
    #[must_use]
    pub fn attempts_left(&self, auth_id: AuthId) -> u32 {
        Policy::OWN_ATTEMPTS.saturating_sub(self.failures_of(auth_id))
    }

    /// The verdict that a write of this invocation gave, if the state shows that it took effect after all: its
    /// response was lost and the SDK repeated it, so that it failed on its own success.
    ///
    /// Both ids must match: neither alone identifies a write.
    #[must_use]
    pub fn verdict_of(&self, auth_id: AuthId, write_id: WriteId) -> Option<Verdict> {
        let succeeded = self
            .accepted
            .iter()
            .any(|entry| entry.auth_id == auth_id && entry.write_id == write_id);
        let last = self
            .last_write
            .filter(|last| last.auth_id == auth_id && last.write_id == write_id);
        if succeeded {
            Some(Verdict::Accepted)
        } else {
            last.map(|last| last.verdict)
        }
    }

    /// The state after an operator's unlock: single codes are open, with six of them in the budget.
    #[must_use]
    pub fn unlocked(&self, now: Timestamp, policy: &Policy) -> Self {
        Self {
            version: self.version.saturating_add(1),
            not_before: Timestamp::EPOCH,
            consecutive_failures: 0,
            budget_at: self.budget_at.min(now.plus(policy.unlocked_debt())),
            ..self.clone()
        }
    }

    fn accept(&self, attempt: &Attempt, now: Timestamp, step: Step, policy: &Policy) -> Self {
        // The owner's own typos cost nothing. Other wrong codes stay in the budget: if a success cleared them, four guesses
        // a day between the owner's sign-ins would never be limited.
        let refund = policy.refill().saturating_mul(self.failures_of(attempt.auth_id));
        let remembered = |entry: &&Accepted| entry.expires_at.plus(Policy::ACCEPTED_GRACE) > now;
        let success = Accepted {
            auth_id: attempt.auth_id,
            write_id: attempt.write_id,
            expires_at: attempt.expires_at,
        };
        Self {
            last_step: step,
            accepted: self
                .accepted
                .iter()
                .filter(remembered)
                .copied()
                .chain([success])
                .collect(),
            failing: self.failing_but(attempt.auth_id).collect(),
            consecutive_failures: 0,
            not_before: Timestamp::EPOCH,
            budget_at: self.budget_at.minus(refund),
            ..self.written(attempt, Verdict::Accepted)
        }
    }

    fn reject_single(&self, attempt: &Attempt, now: Timestamp, verdict: Verdict, policy: &Policy) -> Self {
        let consecutive_failures = self.consecutive_failures.saturating_add(1);
        let own = Failing {
            auth_id: attempt.auth_id,
            count: self.failures_of(attempt.auth_id).saturating_add(1),
        };
        Self {
            failing: [own]
                .into_iter()
                .chain(self.failing_but(attempt.auth_id))
                .take(Policy::REMEMBERED_FAILING)
                .collect(),
            consecutive_failures,
            total_failures: self.total_failures.saturating_add(1),
            // Without a wait it stays in the past: set to `now`, it would refuse the next code on an instance whose clock is
            // a little behind.
            not_before: match Policy::ladder(consecutive_failures) {
                Duration::ZERO => self.not_before,
                wait => now.plus(wait),
            },
            budget_at: one_more(self.budget_at, now, policy.refill()),
            ..self.written(attempt, verdict)
        }
    }

    fn reject_pair(&self, attempt: &Attempt, now: Timestamp, policy: &Policy) -> Self {
        Self {
            total_failures: self.total_failures.saturating_add(1),
            pair_at: one_more(self.pair_at, now, policy.pair_gap()),
            ..self.written(attempt, Verdict::Rejected)
        }
    }

    fn written(&self, attempt: &Attempt, verdict: Verdict) -> Self {
        let last_write = LastWrite {
            write_id: attempt.write_id,
            auth_id: attempt.auth_id,
            verdict,
        };
        Self {
            version: self.version.saturating_add(1),
            last_write: Some(last_write),
            ..self.clone()
        }
    }

    fn failing_but(&self, auth_id: AuthId) -> impl Iterator<Item = Failing> {
        self.failing
            .iter()
            .copied()
            .filter(move |entry| entry.auth_id != auth_id)
    }
}

fn one_more(arrival: Timestamp, now: Timestamp, interval: Duration) -> Timestamp {
    arrival.max(now).plus(interval)
}

/// Whether an attempt is evaluated at all. Needs neither code nor seed.
///
/// # Errors
/// [`Refusal`], in this order: expired, already used, disabled, exhausted, the gates.
pub fn admit(
    device: &Device,
    auth_id: AuthId,
    expires_at: Timestamp,
    kind: OfferKind,
    now: Timestamp,
    policy: &Policy,
) -> Result<(), Refusal> {
    if expires_at <= now {
        return Err(Refusal::Expired);
    }
    if device.accepted.iter().any(|entry| entry.auth_id == auth_id) {
        return Err(Refusal::AlreadyUsed);
    }
    match device.status {
        Status::Active => {}
        Status::Disabled => return Err(Refusal::Disabled),
        Status::ActivationRequired => return Err(Refusal::NotActive),
    }
    if device.attempts_left(auth_id) == 0 {
        return Err(Refusal::Exhausted);
    }
    match kind {
        OfferKind::Single if !device.single_codes_open(now, policy) => Err(Refusal::TwoCodesRequired {
            single_codes_at: device.single_codes_at(policy),
        }),
        OfferKind::Pair if device.pairs_at(policy) > now => Err(Refusal::TooManyPairs {
            pairs_at: device.pairs_at(policy),
        }),
        OfferKind::Single | OfferKind::Pair => Ok(()),
    }
}

/// Decides on an attempt, given a state of the device: the whole protocol except its write.
///
/// `now` is the one clock reading of the request, the same that the matches were made with.
#[must_use]
pub fn decide(device: &Device, attempt: &Attempt, now: Timestamp, policy: &Policy) -> Decision {
    let kind = attempt.matches.kind();
    if let Err(refusal) = admit(device, attempt.auth_id, attempt.expires_at, kind, now, policy) {
        return Decision::Refuse(refusal);
    }
    let (verdict, device) = match (attempt.matches.highest_above(device.last_step), kind) {
        (Some(step), _) => (Verdict::Accepted, device.accept(attempt, now, step, policy)),
        (None, OfferKind::Single) => {
            let verdict = if attempt.matches.any() {
                Verdict::Replayed
            } else {
                Verdict::Rejected
            };
            (verdict, device.reject_single(attempt, now, verdict, policy))
        }
        // Whatever is wrong with a pair, the answer is the same.
        (None, OfferKind::Pair) => (Verdict::Rejected, device.reject_pair(attempt, now, policy)),
    };
    Decision::Write { verdict, device }
}

/// The seed that an activation puts into use: the device's own at registration, or the one that replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NewSeed {
    /// Where it is.
    pub seed_ref: SeedRef,
    /// How its codes are made.
    pub parameters: OtpParameters,
}

/// A seed that waits for its first code to replace the one in use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PendingSeed {
    /// Where it is.
    pub seed_ref: SeedRef,
    /// The seed itself, if it is sealed.
    pub sealed: Option<SealedSeed>,
    /// The end of its activation; whole seconds.
    pub until: Timestamp,
}

impl PendingSeed {
    /// Whether its first code still counts.
    #[must_use]
    pub fn waits_at(&self, now: Timestamp) -> bool {
        self.until > now
    }
}

/// Who registered a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegisteredBy {
    /// An application, over HTTP.
    Http,
    /// An operator, with `mfactl`.
    Operator,
}

impl RegisteredBy {
    /// The written form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Operator => "operator",
        }
    }

    /// From the written form.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        [Self::Http, Self::Operator].into_iter().find(|by| by.as_str() == raw)
    }
}

/// What is stored about a new device besides its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// When it is registered.
    pub created_at: Timestamp,
    /// Who registers it.
    pub by: RegisteredBy,
    /// Until when it is kept from cleaning up, if it has to be activated.
    pub activate_by: Option<Timestamp>,
}

impl Registration {
    /// That of a device which an operator stores ready for use.
    #[must_use]
    pub const fn by_operator(created_at: Timestamp) -> Self {
        Self {
            created_at,
            by: RegisteredBy::Operator,
            activate_by: None,
        }
    }
}

/// Everything stored about a device: its state, and what no verdict depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Which device.
    pub key: DeviceKey,
    /// Its state.
    pub device: Device,
    /// The seed that waits to replace its own.
    pub pending: Option<PendingSeed>,
    /// When it was registered; whole seconds.
    pub created_at: Timestamp,
    /// Who registered it.
    pub by: RegisteredBy,
    /// Until when a device that was never active is kept from cleaning up; whole seconds.
    pub activate_by: Option<Timestamp>,
    /// When it was last used successfully; whole seconds.
    pub last_used_at: Option<Timestamp>,
}

impl DeviceRecord {
    /// Every seed that the device names: its own, and the pending one.
    pub fn seeds(&self) -> impl Iterator<Item = &SeedRef> {
        [&self.device.seed_ref]
            .into_iter()
            .chain(self.pending.as_ref().map(|pending| &pending.seed_ref))
    }

    /// The pending seed, unless it has waited for too long.
    #[must_use]
    pub fn waiting_seed(&self, now: Timestamp) -> Option<&PendingSeed> {
        self.pending.as_ref().filter(|pending| pending.waits_at(now))
    }

    /// The pending seed itself, if it is sealed.
    #[must_use]
    pub fn pending_sealed(&self) -> Option<&SealedSeed> {
        self.pending.as_ref().and_then(|pending| pending.sealed.as_ref())
    }

    /// One of these seeds itself, if it is sealed.
    #[must_use]
    pub fn sealed(&self, seed: &SeedRef) -> Option<&SealedSeed> {
        if self.device.seed_ref == *seed {
            return self.device.sealed.as_ref();
        }
        let pending = self.pending.as_ref().filter(|pending| pending.seed_ref == *seed);
        pending.and_then(|pending| pending.sealed.as_ref())
    }
}

/// The last accepted step in steps of another length; the time that it covers stays used.
fn last_step_in(device: &Device, period: Period) -> Step {
    let own = device.parameters.period;
    if own == period {
        device.last_step
    } else {
        Step::at(device.last_step.next().start(own).minus(Duration::from_secs(1)), period)
    }
}

/// The device as an activation sees it: active, with its last step in steps of the new seed.
fn as_active(device: &Device, period: Period) -> Device {
    let status = match device.status {
        Status::ActivationRequired => Status::Active,
        other => other,
    };
    Device {
        status,
        last_step: last_step_in(device, period),
        ..device.clone()
    }
}

/// Whether the first code of a seed is evaluated at all: [`admit`], except that the device need not be active yet.
///
/// # Errors
/// [`Refusal`].
pub fn admit_activation(
    device: &Device,
    auth_id: AuthId,
    expires_at: Timestamp,
    kind: OfferKind,
    now: Timestamp,
    policy: &Policy,
) -> Result<(), Refusal> {
    let device = as_active(device, device.parameters.period);
    admit(&device, auth_id, expires_at, kind, now, policy)
}

/// Decides on the first code of a seed: [`decide`] with the same counters and gates, so that an activation is no way
/// around them, except that the device need not be active yet. If accepted, it is active and has the new seed.
///
/// `attempt` carries the matches with the new seed, and an authId that step 3 cannot use.
#[must_use]
pub fn decide_activation(
    device: &Device,
    seed: &NewSeed,
    attempt: &Attempt,
    now: Timestamp,
    policy: &Policy,
) -> Decision {
    let as_active = as_active(device, seed.parameters.period);
    match decide(&as_active, attempt, now, policy) {
        Decision::Refuse(refusal) => Decision::Refuse(refusal),
        Decision::Write {
            verdict: verdict @ Verdict::Accepted,
            device,
        } => Decision::Write {
            verdict,
            device: Device {
                // The write takes a sealed seed from where it is pending, so that it never writes one back that was sealed
                // again since it was read.
                sealed: device.sealed.filter(|_| device.seed_ref == seed.seed_ref),
                seed_ref: seed.seed_ref.clone(),
                parameters: seed.parameters,
                ..device
            },
        },
        Decision::Write {
            verdict,
            device: rejected,
        } => Decision::Write {
            verdict,
            device: Device {
                status: device.status,
                last_step: device.last_step,
                ..rejected
            },
        },
    }
}

#[cfg(test)]
mod tests;
