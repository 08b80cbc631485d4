//! The decision as `docs/security.md` describes it ("The decision"), written without a look at `shared::device`, so that a
//! fault has to be made twice.
//!
//! It counts in plain integers (milliseconds and steps), takes the policy's numbers from the documents, and shares no
//! function with the service. Each rule is under the sentence that it implements.

/// Milliseconds.
pub(crate) type Millis = i128;

/// One second.
pub(crate) const SECOND: Millis = 1_000;
/// One hour.
pub(crate) const HOUR: Millis = 3_600 * SECOND;

/// The numbers of a policy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) burst: i128,
    pub(crate) refill: Millis,
    pub(crate) pair_gap: Millis,
}

/// docs/security.md, "The odds": BURST, REFILL and `PAIR_GAP` of `standard`.
pub(crate) const STANDARD: Numbers = Numbers {
    burst: 20,
    refill: 36 * HOUR,
    pair_gap: SECOND,
};
/// The same of `strict`.
pub(crate) const STRICT: Numbers = Numbers {
    burst: 10,
    refill: 480 * HOUR,
    pair_gap: 10 * SECOND,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Waiting,
    Active,
    Disabled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Right,
    Replayed,
    Wrong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum No {
    Expired,
    AlreadyUsed,
    Disabled,
    NotActive,
    Exhausted,
    /// With the time when single codes open, if time alone opens them.
    TwoCodes(Option<Millis>),
    /// With the time when pairs open.
    TooFast(Millis),
}

/// An authId or a write id.
pub(crate) type Id = u128;

/// Which seed, and how its codes are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seed {
    pub(crate) name: String,
    pub(crate) algorithm: &'static str,
    pub(crate) digits: u8,
    pub(crate) period: i128,
}

/// A device: everything that a verdict depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) version: i128,
    pub(crate) status: Status,
    pub(crate) seed: Seed,
    pub(crate) last_step: i128,
    /// authId, write id, expiry.
    pub(crate) accepted: Vec<(Id, Id, Millis)>,
    /// authId, wrong single codes.
    pub(crate) failing: Vec<(Id, i128)>,
    /// Write id, authId, verdict.
    pub(crate) last_write: Option<(Id, Id, Verdict)>,
    pub(crate) in_a_row: i128,
    pub(crate) ever: i128,
    pub(crate) not_before: Millis,
    pub(crate) budget_at: Millis,
    pub(crate) pair_at: Millis,
}

/// An attempt.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) now: Millis,
    pub(crate) auth: Id,
    pub(crate) expires: Millis,
    pub(crate) write: Id,
    pub(crate) pair: bool,
    /// The steps that the code matches; of a pair, those of its earlier code.
    pub(crate) steps: Vec<i128>,
}

/// The answer: a refusal without a write, or a verdict with what is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Refused(No),
    Written(Verdict, Box<Item>),
}

/// What an attempt is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose<'a> {
    SignIn,
    /// With the seed that comes into use.
    Activation(&'a Seed),
}

/// Why an attempt is not evaluated: the first rule that holds.
///
/// "Refused, without a write, for the first of these reasons"
pub(crate) fn refusal(item: &Item, call: &Call, purpose: Purpose<'_>, policy: Numbers) -> Option<No> {
    let now = call.now;
    // "at the later of `notBefore` and `budgetAt` − (BURST − 1)·REFILL"
    let singles = item
        .not_before
        .max(item.budget_at - (policy.burst - 1) * policy.refill)
        .max(0);
    // "not at all from 100 consecutive wrong codes on"
    let for_good = item.in_a_row >= 100;
    // "The gate of pairs opens at `pairAt` − 9·PAIR_GAP."
    let pairs = (item.pair_at - 9 * policy.pair_gap).max(0);
    let rules = [
        // "the authId has expired (`expiresAt` ≤ now)"
        (call.expires <= now, No::Expired),
        // "it has succeeded before"
        (item.accepted.iter().any(|past| past.0 == call.auth), No::AlreadyUsed),
        (item.status == Status::Disabled, No::Disabled),
        // "it is not active, except for an activation"
        (
            item.status == Status::Waiting && matches!(purpose, Purpose::SignIn),
            No::NotActive,
        ),
        // "the authId had five wrong single codes"
        (wrong_codes_of(item, call.auth) >= 5, No::Exhausted),
        // api.md: "absent if that takes two codes or an operator"
        (
            !call.pair && (for_good || now < singles),
            No::TwoCodes((!for_good).then_some(singles)),
        ),
        (call.pair && now < pairs, No::TooFast(pairs)),
    ];
    rules.into_iter().find_map(|(holds, no)| holds.then_some(no))
}

/// Refuses, or evaluates and counts.
pub(crate) fn answer(item: &Item, call: &Call, purpose: Purpose<'_>, policy: Numbers) -> Answer {
    if let Some(no) = refusal(item, call, purpose, policy) {
        return Answer::Refused(no);
    }
    // "if its period is another, `lastStep` becomes the step with the last second that was used"
    let last = match purpose {
        Purpose::Activation(seed) if seed.period != item.seed.period => {
            let end = (item.last_step + 1) * item.seed.period;
            (end + seed.period - 1) / seed.period - 1
        }
        _ => item.last_step,
    };
    let mut next = item.clone();
    // "an attempt that matches a step above `lastStep`, a pair with its earlier code; of several the highest counts"
    let verdict = match call.steps.iter().filter(|step| **step > last).max() {
        Some(step) => {
            // "It sets `lastStep` (of a pair to the later step)"
            right(&mut next, call, step + i128::from(call.pair), policy);
            if let Purpose::Activation(seed) = purpose {
                // "A right code of it also makes the device active, with that seed."
                next.status = Status::Active;
                next.seed = seed.clone();
            }
            Verdict::Right
        }
        // "One that matches used steps only is called replayed and is as wrong."
        None if !call.pair && !call.steps.is_empty() => wrong_single(&mut next, call, policy, Verdict::Replayed),
        None if !call.pair => wrong_single(&mut next, call, policy, Verdict::Wrong),
        None => {
            // "sets `pairAt` to max(`pairAt`, now) + PAIR_GAP and counts in `totalFailures`; nothing else"
            next.pair_at = next.pair_at.max(call.now) + policy.pair_gap;
            next.ever += 1;
            Verdict::Wrong
        }
    };
    // "Every write adds one to the version and notes its id, its authId and its verdict."
    next.version += 1;
    next.last_write = Some((call.write, call.auth, verdict));
    Answer::Written(verdict, Box::new(next))
}

fn wrong_codes_of(item: &Item, auth: Id) -> i128 {
    item.failing.iter().filter(|one| one.0 == auth).map(|one| one.1).sum()
}

fn right(next: &mut Item, call: &Call, step: i128, policy: Numbers) {
    next.last_step = step;
    // "and `consecutiveFailures` and `notBefore` to zero"
    (next.in_a_row, next.not_before) = (0, 0);
    // "takes REFILL from `budgetAt` for each wrong single code of its own authId, which is then no longer remembered"
    let own = wrong_codes_of(next, call.auth);
    next.budget_at = (next.budget_at - policy.refill * own).max(0);
    next.failing.retain(|one| one.0 != call.auth);
    // "and remembers the authId as used until 120 s after it expires"
    next.accepted.retain(|past| call.now < past.2 + 120 * SECOND);
    next.accepted.push((call.auth, call.write, call.expires));
}

/// "A wrong single code …"
fn wrong_single(next: &mut Item, call: &Call, policy: Numbers, verdict: Verdict) -> Verdict {
    let k = next.in_a_row + 1;
    // "The k-th in a row sets `notBefore` to now + 30 s·2^(k−5), at most now + 1 h"
    let mut wait = if k < 5 { 0 } else { 30 * SECOND };
    for _ in 5..k {
        wait = HOUR.min(wait * 2);
    }
    (next.in_a_row, next.ever) = (k, next.ever + 1);
    // "the first four leave it as it was"
    if wait > 0 {
        next.not_before = call.now + wait;
    }
    // "sets `budgetAt` to max(`budgetAt`, now) + REFILL"
    next.budget_at = next.budget_at.max(call.now) + policy.refill;
    // "puts its authId first of the four that are remembered as failing, with how often"
    let own = wrong_codes_of(next, call.auth) + 1;
    next.failing.retain(|one| one.0 != call.auth);
    next.failing.insert(0, (call.auth, own));
    next.failing.truncate(4);
    verdict
}
