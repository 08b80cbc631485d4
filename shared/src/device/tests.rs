use super::*;
use crate::names::{DeviceName, NameError, Owner, UserName};
use crate::otp::{CANDIDATES, Digits};
use crate::policy::PolicyError;

/// The clock of most tests, in the middle of step [`N`].
const NOW: Timestamp = Timestamp::from_millis(1_800_000_015_250);
const N: u64 = 60_000_000;
/// When the authIds of most tests expire.
const EXPIRES: Timestamp = Timestamp::from_secs(1_800_000_300);
/// Wrong single codes of someone without the seed, in the tests that need an authId which is not the owner's.
const ATTACKER: u8 = 200;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
/// What [`Policy::standard`] promises.
const REFILL: Duration = Duration::from_hours(36);
const BURST: u32 = 20;
const PAIR_GAP: Duration = SECOND;
const PAIR_BURST: u32 = 10;

fn auth_id(number: u8) -> AuthId {
    AuthId::from_random_bytes([number; 16])
}

fn write_id(number: u8) -> WriteId {
    WriteId::from_bytes([number; 16])
}

fn never_failed() -> Device {
    Device {
        last_step: Step(N - 100),
        ..Device::registered(
            7,
            Status::Active,
            SeedRef::new("mfa/seed/00ff", "v1").expect("a reference"),
            OtpParameters::default(),
        )
    }
}

/// A device with a history: nothing in it is at its default.
fn lived_in() -> Device {
    Device {
        version: 4_711,
        last_step: Step(N - 7),
        accepted: vec![Accepted {
            auth_id: auth_id(90),
            write_id: write_id(90),
            expires_at: EXPIRES,
        }],
        failing: vec![
            Failing {
                auth_id: auth_id(91),
                count: 2,
            },
            Failing {
                auth_id: auth_id(92),
                count: 1,
            },
        ],
        last_write: Some(LastWrite {
            write_id: write_id(91),
            auth_id: auth_id(91),
            verdict: Verdict::Rejected,
        }),
        consecutive_failures: 3,
        total_failures: 40,
        not_before: NOW.minus(HOUR),
        budget_at: NOW.plus(REFILL * 3),
        pair_at: NOW.plus(SECOND * 2),
        ..never_failed()
    }
}

fn attempt(number: u8, kind: OfferKind, steps: [Option<u64>; CANDIDATES]) -> Attempt {
    Attempt {
        auth_id: auth_id(number),
        expires_at: EXPIRES,
        write_id: write_id(number),
        matches: Matches::new(kind, steps.map(|step| step.map(Step))),
    }
}

/// A single code that matches a step.
fn single(number: u8, step: u64) -> Attempt {
    attempt(number, OfferKind::Single, [None, Some(step), None])
}

fn wrong_single(number: u8) -> Attempt {
    attempt(number, OfferKind::Single, [None; CANDIDATES])
}

/// Two codes that match a step and the next.
fn pair(number: u8, earlier: u64) -> Attempt {
    attempt(number, OfferKind::Pair, [Some(earlier), None, None])
}

fn wrong_pair(number: u8) -> Attempt {
    attempt(number, OfferKind::Pair, [None; CANDIDATES])
}

/// An attempt with an authId that never expires, for tests that last long.
fn unexpiring(attempt: Attempt) -> Attempt {
    Attempt {
        expires_at: Timestamp::from_millis(u64::MAX),
        ..attempt
    }
}

fn try_at(device: &Device, attempt: Attempt, now: Timestamp) -> Decision {
    decide(device, &attempt, now, &Policy::standard())
}

fn written(decision: Decision) -> (Verdict, Device) {
    match decision {
        Decision::Write { verdict, device } => (verdict, device),
        Decision::Refuse(refusal) => panic!("refused: {refusal:?}"),
    }
}

fn refused(decision: &Decision) -> Refusal {
    match decision {
        Decision::Refuse(refusal) => *refusal,
        Decision::Write { verdict, .. } => panic!("got a verdict: {verdict:?}"),
    }
}

fn verdict_at(device: &mut Device, attempt: Attempt, now: Timestamp) -> Verdict {
    let (verdict, new) = written(try_at(device, attempt, now));
    assert_eq!(new.version, device.version + 1, "a verdict without a write");
    *device = new;
    verdict
}

#[track_caller]
fn assert_rejected(device: &mut Device, attempts: impl IntoIterator<Item = Attempt>, now: Timestamp) {
    for attempt in attempts {
        assert_eq!(verdict_at(device, attempt, now), Verdict::Rejected);
    }
}

// ------ which verdict ------

#[test]
fn a_right_single_code_is_accepted_and_changes_exactly_this() {
    let device = lived_in();
    let (verdict, new) = written(try_at(&device, single(1, N), NOW));
    assert_eq!(verdict, Verdict::Accepted);
    let success = Accepted {
        auth_id: auth_id(1),
        write_id: write_id(1),
        expires_at: EXPIRES,
    };
    assert_eq!(
        new,
        Device {
            version: device.version + 1,
            last_step: Step(N),
            accepted: [device.accepted.clone(), vec![success]].concat(),
            last_write: Some(LastWrite {
                write_id: write_id(1),
                auth_id: auth_id(1),
                verdict: Verdict::Accepted
            }),
            consecutive_failures: 0,
            not_before: Timestamp::EPOCH,
            ..device
        }
    );
}

#[test]
fn a_right_pair_is_accepted_and_uses_up_its_later_step() {
    let device = lived_in();
    let (verdict, new) = written(try_at(&device, pair(1, N - 1), NOW));
    assert_eq!(verdict, Verdict::Accepted);
    let (_, after_single) = written(try_at(&device, single(1, N), NOW));
    assert_eq!(new, after_single);
    assert_eq!(new.last_step, Step(N));
}

#[test]
fn a_wrong_single_code_is_counted_and_changes_exactly_this() {
    let device = lived_in();
    let (verdict, new) = written(try_at(&device, wrong_single(1), NOW));
    assert_eq!(verdict, Verdict::Rejected);
    let own = Failing {
        auth_id: auth_id(1),
        count: 1,
    };
    assert_eq!(
        new,
        Device {
            version: device.version + 1,
            failing: [vec![own], device.failing.clone()].concat(),
            last_write: Some(LastWrite {
                write_id: write_id(1),
                auth_id: auth_id(1),
                verdict: Verdict::Rejected
            }),
            consecutive_failures: 4,
            total_failures: 41,
            budget_at: NOW.plus(REFILL * 4),
            ..device
        }
    );
}

#[test]
fn a_wrong_pair_changes_only_its_rate_and_the_count_of_all_failures() {
    let device = lived_in();
    let (verdict, new) = written(try_at(&device, wrong_pair(91), NOW));
    assert_eq!(verdict, Verdict::Rejected);
    assert_eq!(
        new,
        Device {
            version: device.version + 1,
            last_write: Some(LastWrite {
                write_id: write_id(91),
                auth_id: auth_id(91),
                verdict: Verdict::Rejected
            }),
            total_failures: 41,
            pair_at: NOW.plus(SECOND * 2 + PAIR_GAP),
            ..device
        }
    );
}

#[test]
fn a_code_cannot_be_used_twice() {
    let mut device = never_failed();
    assert_eq!(verdict_at(&mut device, single(1, N), NOW), Verdict::Accepted);
    assert_eq!(verdict_at(&mut device, single(2, N), NOW), Verdict::Replayed);
    assert_eq!(device.last_step, Step(N));
}

#[test]
fn the_older_codes_of_the_window_are_used_up_with_the_newer_one() {
    let mut device = never_failed();
    assert_eq!(verdict_at(&mut device, single(1, N), NOW), Verdict::Accepted);
    assert_eq!(verdict_at(&mut device, single(2, N - 1), NOW), Verdict::Replayed);
    assert_eq!(verdict_at(&mut device, single(3, N + 1), NOW), Verdict::Accepted);
    for step in N - 1..=N + 1 {
        assert_eq!(verdict_at(&mut device, single(4, step), NOW), Verdict::Replayed);
    }
}

#[test]
fn a_pair_uses_up_both_of_its_codes() {
    let mut device = never_failed();
    assert_eq!(verdict_at(&mut device, pair(1, N - 1), NOW), Verdict::Accepted);
    assert_eq!(verdict_at(&mut device, single(2, N - 1), NOW), Verdict::Replayed);
    assert_eq!(verdict_at(&mut device, single(2, N), NOW), Verdict::Replayed);
    assert_eq!(verdict_at(&mut device, pair(2, N - 1), NOW), Verdict::Rejected);
    assert_eq!(verdict_at(&mut device, single(2, N + 1), NOW), Verdict::Accepted);
}

#[test]
fn a_pair_whose_earlier_code_was_used_is_rejected_and_not_called_replayed() {
    let mut device = never_failed();
    assert_eq!(verdict_at(&mut device, single(1, N - 1), NOW), Verdict::Accepted);
    let (verdict, half_used) = written(try_at(&device, pair(2, N - 1), NOW));
    assert_eq!(verdict, Verdict::Rejected);
    let (_, all_wrong) = written(try_at(&device, wrong_pair(2), NOW));
    assert_eq!(half_used, all_wrong);
    assert_eq!(verdict_at(&mut device, pair(2, N), NOW), Verdict::Accepted);
}

#[test]
fn a_replayed_code_counts_as_a_wrong_one() {
    let mut device = lived_in();
    device.last_step = Step(N);
    let (verdict, replayed) = written(try_at(&device, single(1, N), NOW));
    assert_eq!(verdict, Verdict::Replayed);
    let (_, mut rejected) = written(try_at(&device, wrong_single(1), NOW));
    rejected.last_write = replayed.last_write;
    assert_eq!(replayed, rejected);
    assert_eq!(replayed.last_write.map(|last| last.verdict), Some(Verdict::Replayed));
}

#[test]
fn a_code_that_matches_a_used_and_an_unused_step_is_accepted_for_the_unused_one() {
    let mut device = never_failed();
    device.last_step = Step(N);
    let twin = attempt(1, OfferKind::Single, [None, Some(N), Some(N + 1)]);
    assert_eq!(verdict_at(&mut device, twin, NOW), Verdict::Accepted);
    assert_eq!(device.last_step, Step(N + 1));
}

#[test]
fn deciding_twice_on_one_state_gives_the_same_decision() {
    let device = lived_in();
    for attempt in [single(1, N), wrong_single(1), pair(1, N), wrong_pair(1), single(90, N)] {
        assert_eq!(try_at(&device, attempt, NOW), try_at(&device, attempt, NOW));
    }
    assert_eq!(device, lived_in());
}

// ------ refusals ------

#[test]
fn the_first_reason_to_refuse_is_the_one_that_is_given() {
    for kind in [OfferKind::Single, OfferKind::Pair] {
        let right = attempt(1, kind, [None, Some(N), None]);
        let mut device = Device {
            status: Status::Disabled,
            accepted: vec![Accepted {
                auth_id: auth_id(1),
                write_id: write_id(9),
                expires_at: EXPIRES,
            }],
            failing: vec![Failing {
                auth_id: auth_id(1),
                count: 5,
            }],
            not_before: NOW.plus(SECOND),
            pair_at: NOW.plus(HOUR),
            ..never_failed()
        };
        assert_eq!(refused(&try_at(&device, right, EXPIRES)), Refusal::Expired);
        assert_eq!(refused(&try_at(&device, right, NOW)), Refusal::AlreadyUsed);
        device.accepted.clear();
        assert_eq!(refused(&try_at(&device, right, NOW)), Refusal::Disabled);
        device.status = Status::ActivationRequired;
        assert_eq!(refused(&try_at(&device, right, NOW)), Refusal::NotActive);
        device.status = Status::Active;
        assert_eq!(refused(&try_at(&device, right, NOW)), Refusal::Exhausted);
        device.failing.clear();
        let gate = match kind {
            OfferKind::Single => Refusal::TwoCodesRequired {
                single_codes_at: Some(NOW.plus(SECOND)),
            },
            OfferKind::Pair => Refusal::TooManyPairs {
                pairs_at: NOW.plus(HOUR).minus(SECOND * 9),
            },
        };
        assert_eq!(refused(&try_at(&device, right, NOW)), gate);
        device.not_before = Timestamp::EPOCH;
        device.pair_at = Timestamp::EPOCH;
        assert_eq!(written(try_at(&device, right, NOW)).0, Verdict::Accepted);
    }
}

#[test]
fn an_auth_expires_with_the_second_that_it_names() {
    let device = never_failed();
    for right in [single(1, N), pair(1, N)] {
        assert_eq!(
            written(try_at(&device, right, EXPIRES.minus(MILLISECOND))).0,
            Verdict::Accepted
        );
        assert_eq!(refused(&try_at(&device, right, EXPIRES)), Refusal::Expired);
        assert_eq!(refused(&try_at(&device, right, EXPIRES.plus(HOUR))), Refusal::Expired);
    }
}

#[test]
fn an_auth_succeeds_at_most_once() {
    let mut device = never_failed();
    assert_eq!(verdict_at(&mut device, single(1, N), NOW), Verdict::Accepted);
    for attempt in [
        single(1, N + 1),
        pair(1, N + 1),
        single(1, N),
        wrong_single(1),
        wrong_pair(1),
    ] {
        assert_eq!(refused(&try_at(&device, attempt, NOW)), Refusal::AlreadyUsed);
    }
    assert_eq!(verdict_at(&mut device, single(2, N + 1), NOW), Verdict::Accepted);
    assert_eq!(refused(&try_at(&device, pair(1, N + 2), NOW)), Refusal::AlreadyUsed);
}

#[test]
fn a_device_that_is_not_active_is_refused() {
    for (status, refusal) in [
        (Status::Disabled, Refusal::Disabled),
        (Status::ActivationRequired, Refusal::NotActive),
    ] {
        let device = Device {
            status,
            ..never_failed()
        };
        for attempt in [single(1, N), pair(1, N), wrong_single(1), wrong_pair(1)] {
            assert_eq!(refused(&try_at(&device, attempt, NOW)), refusal);
        }
    }
}

#[test]
fn an_auth_is_exhausted_after_five_wrong_single_codes_of_its_own() {
    let mut device = never_failed();
    for left in (0..5).rev() {
        assert_rejected(&mut device, [wrong_single(1)], NOW);
        assert_eq!(
            (device.attempts_left(auth_id(1)), device.failures_of(auth_id(1))),
            (left, 5 - left)
        );
    }
    // Two consecutive codes do not revive it; on a new authId they work.
    for attempt in [single(1, N), pair(1, N), wrong_single(1), wrong_pair(1)] {
        assert_eq!(
            refused(&try_at(&device, attempt, NOW.plus(SECOND * 30))),
            Refusal::Exhausted
        );
    }
    assert_eq!(device.attempts_left(auth_id(2)), 5);
    assert_eq!(verdict_at(&mut device, pair(2, N), NOW), Verdict::Accepted);
}

#[test]
fn an_auth_is_not_exhausted_by_anybody_else() {
    let mut device = never_failed();
    assert_rejected(&mut device, [1, 1, 1, 1].map(wrong_single), NOW);
    assert_rejected(&mut device, [wrong_single(2)], NOW);
    let later = NOW.plus(SECOND * 30);
    assert_eq!(
        (device.attempts_left(auth_id(1)), device.attempts_left(auth_id(2))),
        (1, 4)
    );
    assert_eq!(verdict_at(&mut device, single(1, N), later), Verdict::Accepted);
}

#[test]
fn replayed_codes_exhaust_an_auth_and_wrong_pairs_do_not() {
    let mut device = never_failed();
    device.last_step = Step(N);
    for _ in 0..5 {
        assert_eq!(verdict_at(&mut device, single(1, N), NOW), Verdict::Replayed);
    }
    assert_eq!(refused(&try_at(&device, pair(1, N + 1), NOW)), Refusal::Exhausted);

    assert_rejected(&mut device, [2; 9].map(wrong_pair), NOW);
    assert_eq!(device.attempts_left(auth_id(2)), 5);
    assert_eq!(verdict_at(&mut device, pair(2, N + 1), NOW), Verdict::Accepted);
}

#[test]
fn the_four_auths_that_failed_last_are_remembered() {
    let mut device = never_failed();
    let remembered = |device: &Device| -> Vec<_> {
        device
            .failing
            .iter()
            .map(|entry| (entry.auth_id, entry.count))
            .collect()
    };
    assert_rejected(&mut device, [1, 2, 3, 4].map(wrong_single), NOW);
    assert_eq!(remembered(&device), [4, 3, 2, 1].map(|number| (auth_id(number), 1)));

    // One that fails again moves to the front and displaces no other.
    let later = NOW.plus(HOUR);
    let again = |number| unexpiring(wrong_single(number));
    assert_rejected(&mut device, [again(1)], later);
    assert_eq!(
        remembered(&device),
        [(1, 2), (4, 1), (3, 1), (2, 1)].map(|(number, count)| (auth_id(number), count))
    );

    let later = later.plus(HOUR);
    assert_rejected(&mut device, [again(5)], later);
    assert_eq!(
        remembered(&device),
        [(5, 1), (1, 2), (4, 1), (3, 1)].map(|(number, count)| (auth_id(number), count))
    );
    assert_eq!(
        (device.failures_of(auth_id(2)), device.attempts_left(auth_id(2))),
        (0, 5)
    );
}

// ------ the gates of single codes ------

#[test]
fn the_first_wrong_code_ever_starts_the_budget_now() {
    let mut device = never_failed();
    assert_rejected(&mut device, [wrong_single(1)], NOW);
    assert_eq!(device.budget_at, NOW.plus(REFILL));
    let later = NOW.plus(HOUR);
    assert_rejected(&mut device, [unexpiring(wrong_single(2))], later);
    assert_eq!(device.budget_at, NOW.plus(REFILL * 2));
    // What was saved up before is at most the burst: a budget in the past counts from now.
    let much_later = NOW.plus(REFILL * 100);
    assert_rejected(&mut device, [unexpiring(wrong_single(3))], much_later);
    assert_eq!(device.budget_at, much_later.plus(REFILL));
}

#[test]
fn the_budget_opens_at_its_very_millisecond() {
    let mut device = never_failed();
    device.budget_at = NOW.plus(REFILL * (BURST - 1));
    assert_eq!(device.single_codes_at(&Policy::standard()), Some(NOW));
    assert!(device.single_codes_open(NOW, &Policy::standard()));
    assert!(!device.single_codes_open(NOW.minus(MILLISECOND), &Policy::standard()));
    let refusal = Refusal::TwoCodesRequired {
        single_codes_at: Some(NOW),
    };
    assert_eq!(refused(&try_at(&device, single(1, N), NOW.minus(MILLISECOND))), refusal);
    assert_eq!(written(try_at(&device, single(1, N), NOW)).0, Verdict::Accepted);
    // The refused code was not consumed, and two codes were possible all the time.
    assert_eq!(
        written(try_at(&device, pair(1, N), NOW.minus(MILLISECOND))).0,
        Verdict::Accepted
    );
}

#[test]
fn the_ladder_opens_at_its_very_millisecond() {
    let mut device = never_failed();
    device.not_before = NOW;
    let refusal = Refusal::TwoCodesRequired {
        single_codes_at: Some(NOW),
    };
    assert_eq!(refused(&try_at(&device, single(1, N), NOW.minus(MILLISECOND))), refusal);
    assert_eq!(written(try_at(&device, single(1, N), NOW)).0, Verdict::Accepted);
    assert_eq!(
        written(try_at(&device, pair(1, N), NOW.minus(MILLISECOND))).0,
        Verdict::Accepted
    );
}

#[test]
fn the_later_of_two_openings_is_reported() {
    let mut device = never_failed();
    let opens = |device: &Device| device.single_codes_at(&Policy::standard());
    device.not_before = NOW.plus(SECOND * 30);
    device.budget_at = NOW.plus(REFILL * BURST);
    assert_eq!(opens(&device), Some(NOW.plus(REFILL)));
    device.not_before = NOW.plus(REFILL * 2);
    assert_eq!(opens(&device), Some(NOW.plus(REFILL * 2)));
    assert_eq!(opens(&never_failed()), Some(Timestamp::EPOCH));
}

#[test]
fn a_wrong_code_without_a_wait_refuses_nothing_on_a_clock_that_is_behind() {
    let mut device = never_failed();
    assert_rejected(&mut device, [wrong_single(1)], NOW);
    assert!(device.single_codes_open(NOW.minus(SECOND * 2), &Policy::standard()));
}

#[test]
fn consecutive_wrong_codes_climb_the_ladder() {
    let mut device = never_failed();
    let mut now = NOW;
    let waits = [
        0, 0, 0, 0, 30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600, 3_600,
    ];
    for (number, wait) in (1..).zip(waits) {
        assert_rejected(&mut device, [unexpiring(wrong_single(number))], now);
        let opens = if wait == 0 {
            Timestamp::EPOCH
        } else {
            now.plus(SECOND * wait)
        };
        assert_eq!(device.not_before, opens, "after {number} wrong codes");
        now = now.plus(SECOND * wait);
    }
    // A success ends the row; the next wrong code is a first one.
    assert_eq!(
        verdict_at(&mut device, unexpiring(single(100, N)), now),
        Verdict::Accepted
    );
    assert_eq!((device.consecutive_failures, device.not_before), (0, Timestamp::EPOCH));
    assert_rejected(&mut device, [unexpiring(wrong_single(101))], now);
    assert_eq!((device.consecutive_failures, device.not_before), (1, Timestamp::EPOCH));
    assert_eq!(device.total_failures, 16);
}

#[test]
fn after_five_wrong_codes_a_right_one_is_refused_unconsumed_and_two_codes_are_accepted() {
    let mut device = never_failed();
    assert_rejected(&mut device, [ATTACKER; 5].map(wrong_single), NOW);
    let refusal = Refusal::TwoCodesRequired {
        single_codes_at: Some(NOW.plus(SECOND * 30)),
    };
    assert_eq!(refused(&try_at(&device, single(1, N), NOW)), refusal);
    assert_eq!(
        verdict_at(&mut device.clone(), single(1, N), NOW.plus(SECOND * 30)),
        Verdict::Accepted
    );
    assert_eq!(verdict_at(&mut device, pair(1, N - 1), NOW), Verdict::Accepted);
    // And that opened single codes again.
    assert_eq!(verdict_at(&mut device, single(2, N + 1), NOW), Verdict::Accepted);
}

/// Wrong single codes at every opening until `end`, each with an authId of its own.
fn guesses_until(end: Timestamp, mut device: Device, policy: &Policy, start: Timestamp) -> (u32, Device) {
    let (mut guesses, mut now) = (0, start);
    while now < end {
        let attempt = Attempt {
            auth_id: AuthId::from_random_bytes(u128::from(guesses).to_be_bytes()),
            ..unexpiring(wrong_single(ATTACKER))
        };
        let (verdict, new) = written(decide(&device, &attempt, now, policy));
        assert_eq!(verdict, Verdict::Rejected);
        guesses += 1;
        device = new;
        let Some(opens) = device.single_codes_at(policy) else {
            break;
        };
        if opens > now {
            let early = decide(&device, &attempt, opens.minus(MILLISECOND), policy);
            assert!(
                matches!(early, Decision::Refuse(Refusal::TwoCodesRequired { .. })),
                "{early:?}"
            );
        }
        now = now.max(opens);
    }
    (guesses, device)
}

#[test]
fn a_device_that_never_failed_allows_exactly_the_burst_before_the_first_refill() -> Result<(), PolicyError> {
    for (policy, burst) in [
        (Policy::standard(), 20),
        (Policy::strict(), 10),
        (Policy::custom(6, 36, 1)?, 6),
        (Policy::custom(50, 96, 1)?, 50),
    ] {
        let end = NOW.plus(policy.refill());
        let (guesses, device) = guesses_until(end, never_failed(), &policy, NOW);
        assert_eq!(guesses, burst, "{policy:?}");
        assert_eq!(device.single_codes_at(&policy), Some(end));
        assert_eq!(device.budget_at, NOW.plus(policy.refill() * burst));
    }
    Ok(())
}

#[test]
fn afterwards_the_budget_allows_one_wrong_code_per_refill() {
    let refills = 50;
    let (guesses, _) = guesses_until(NOW.plus(REFILL * refills), never_failed(), &Policy::standard(), NOW);
    assert_eq!(guesses, BURST + refills - 1);
}

#[test]
fn after_a_hundred_consecutive_wrong_codes_time_alone_opens_nothing() {
    let policy = Policy::standard();
    let end = NOW.plus(REFILL * 1_000);
    let (guesses, mut device) = guesses_until(end, never_failed(), &policy, NOW);
    assert_eq!((guesses, device.consecutive_failures), (100, 100));
    assert_eq!(device.single_codes_at(&policy), None);
    let refusal = Refusal::TwoCodesRequired { single_codes_at: None };
    assert_eq!(refused(&try_at(&device, unexpiring(single(1, N)), end)), refusal);

    // The operator, or the owner with two codes, does.
    assert!(device.unlocked(end, &policy).single_codes_open(end, &policy));
    assert_eq!(verdict_at(&mut device, unexpiring(pair(1, N)), end), Verdict::Accepted);
    assert!(device.single_codes_open(end, &policy));
}

#[test]
fn the_hundredth_consecutive_wrong_code_is_still_evaluated() {
    let device = Device {
        consecutive_failures: 99,
        ..never_failed()
    };
    assert_eq!(written(try_at(&device, single(1, N), NOW)).0, Verdict::Accepted);
    let device = Device {
        consecutive_failures: 100,
        ..never_failed()
    };
    assert_eq!(
        refused(&try_at(&device, single(1, N), NOW)),
        Refusal::TwoCodesRequired { single_codes_at: None }
    );
    assert_eq!(written(try_at(&device, pair(1, N), NOW)).0, Verdict::Accepted);
}

#[test]
fn parallel_wrong_codes_are_five_verdicts() {
    let mut device = never_failed();
    let mut verdicts = 0;
    for number in 0..100 {
        if let Decision::Write { device: new, .. } = try_at(&device, wrong_single(number), NOW) {
            verdicts += 1;
            device = new;
        }
    }
    assert_eq!((verdicts, device.total_failures), (5, 5));
}

// ------ the rate of pairs ------

#[test]
fn ten_wrong_pairs_may_come_at_once_and_then_one_per_gap() {
    for policy in [Policy::standard(), Policy::strict()] {
        let gap = policy.pair_gap();
        let mut device = never_failed();
        for number in 0..PAIR_BURST {
            let (verdict, new) = written(decide(&device, &wrong_pair(1), NOW, &policy));
            assert_eq!(
                (verdict, new.pair_at),
                (Verdict::Rejected, NOW.plus(gap * (number + 1)))
            );
            device = new;
        }
        let opens = NOW.plus(gap);
        let refusal = Refusal::TooManyPairs { pairs_at: opens };
        for attempt in [wrong_pair(1), pair(2, N)] {
            assert_eq!(refused(&decide(&device, &attempt, NOW, &policy)), refusal);
            assert_eq!(
                refused(&decide(&device, &attempt, opens.minus(MILLISECOND), &policy)),
                refusal
            );
        }
        assert_eq!(
            written(decide(&device, &pair(2, N), opens, &policy)).0,
            Verdict::Accepted
        );
        let (_, device) = written(decide(&device, &wrong_pair(1), opens, &policy));
        let refusal = Refusal::TooManyPairs {
            pairs_at: opens.plus(gap),
        };
        assert_eq!(refused(&decide(&device, &pair(2, N), opens, &policy)), refusal);
    }
}

#[test]
fn a_rate_in_the_past_counts_from_now() {
    let device = Device {
        pair_at: NOW.minus(HOUR),
        ..never_failed()
    };
    let (_, new) = written(try_at(&device, wrong_pair(1), NOW));
    assert_eq!(new.pair_at, NOW.plus(PAIR_GAP));
}

#[test]
fn single_codes_and_pairs_do_not_close_each_others_gates() {
    let no_pairs = Device {
        pair_at: NOW.plus(HOUR),
        ..never_failed()
    };
    assert_eq!(written(try_at(&no_pairs, single(1, N), NOW)).0, Verdict::Accepted);
    assert_eq!(
        written(try_at(&no_pairs, wrong_single(1), NOW)).1.pair_at,
        no_pairs.pair_at
    );

    let no_singles = Device {
        not_before: NOW.plus(HOUR),
        budget_at: NOW.plus(REFILL * BURST * 2),
        consecutive_failures: 100,
        ..never_failed()
    };
    assert_eq!(written(try_at(&no_singles, pair(1, N), NOW)).0, Verdict::Accepted);
    assert_eq!(written(try_at(&no_singles, wrong_pair(1), NOW)).0, Verdict::Rejected);
}

#[test]
fn a_success_leaves_the_rate_of_pairs_as_it_is() {
    let device = Device {
        pair_at: NOW.plus(PAIR_GAP * 5),
        ..never_failed()
    };
    for right in [single(1, N), pair(1, N)] {
        assert_eq!(written(try_at(&device, right, NOW)).1.pair_at, device.pair_at);
    }
}

// ------ what a success gives back ------

#[test]
fn the_owners_own_typos_cost_nothing() {
    for right in [single(1, N), pair(1, N)] {
        let mut device = never_failed();
        device.budget_at = NOW.plus(REFILL * 3);
        let before = device.budget_at;
        assert_rejected(&mut device, [1, 1, 1].map(wrong_single), NOW);
        assert_eq!(device.budget_at, before.plus(REFILL * 3));
        assert_eq!(verdict_at(&mut device, right, NOW), Verdict::Accepted);
        assert_eq!(device.budget_at, before);
        assert_eq!((device.failing.clone(), device.total_failures), (vec![], 3));
    }
}

#[test]
fn the_refund_is_whole_after_more_than_ninety_wrong_codes_in_a_row() {
    let mut device = never_failed();
    device.budget_at = NOW.plus(REFILL * 12);
    device.consecutive_failures = 92;
    let before = device.budget_at;
    let mut now = NOW;
    for count in 1..=4 {
        assert_rejected(&mut device, [unexpiring(wrong_single(1))], now);
        assert_eq!(device.budget_at, before.plus(REFILL * count));
        now = now.plus(HOUR);
    }
    assert_eq!(device.consecutive_failures, 96);
    for right in [single(1, N), pair(1, N)] {
        let mut opened = device.clone();
        assert_eq!(verdict_at(&mut opened, unexpiring(right), now), Verdict::Accepted);
        assert_eq!((opened.budget_at, opened.consecutive_failures), (before, 0));
    }
}

#[test]
fn wrong_pairs_in_between_change_nothing_about_the_refund() {
    let mut device = never_failed();
    device.budget_at = NOW.plus(REFILL * 3);
    let before = device.budget_at;
    let attempts = [
        wrong_single(1),
        wrong_pair(1),
        wrong_single(1),
        wrong_pair(1),
        wrong_pair(2),
    ];
    assert_rejected(&mut device, attempts, NOW);
    assert_eq!(device.budget_at, before.plus(REFILL * 2));
    assert_eq!(verdict_at(&mut device, single(1, N), NOW), Verdict::Accepted);
    assert_eq!(device.budget_at, before);
}

#[test]
fn foreign_wrong_codes_are_never_refunded() {
    let mut device = never_failed();
    assert_rejected(&mut device, [ATTACKER, 1, ATTACKER, ATTACKER].map(wrong_single), NOW);
    assert_eq!(verdict_at(&mut device, single(1, N), NOW), Verdict::Accepted);
    assert_eq!(device.budget_at, NOW.plus(REFILL * 3));
    assert_eq!(
        device.failing,
        [Failing {
            auth_id: auth_id(ATTACKER),
            count: 3
        }]
    );
    // Nor is the owner's typo given back twice, or on another authId.
    assert_eq!(verdict_at(&mut device, single(2, N + 1), NOW), Verdict::Accepted);
    assert_eq!(device.budget_at, NOW.plus(REFILL * 3));
}

#[test]
fn typos_on_another_auth_or_forgotten_ones_are_not_given_back() {
    let mut device = never_failed();
    assert_rejected(&mut device, [wrong_single(1)], NOW);
    let spent = device.budget_at;
    assert_eq!(written(try_at(&device, single(2, N), NOW)).1.budget_at, spent);

    device.not_before = Timestamp::EPOCH;
    for number in [11, 12, 13, 14] {
        device.not_before = Timestamp::EPOCH;
        assert_rejected(&mut device, [wrong_single(number)], NOW);
    }
    let spent = device.budget_at;
    let later = NOW.plus(SECOND * 30);
    assert_eq!(written(try_at(&device, single(1, N), later)).1.budget_at, spent);
}

#[test]
fn a_success_does_not_clear_the_budget() {
    // Four guesses a day between the owner's sign-ins: the ladder never trips, the budget does.
    let mut device = never_failed();
    let day = HOUR * 24;
    let mut guesses = 0;
    for number in 0..30_u8 {
        let now = NOW.plus(day * u32::from(number));
        for _ in 0..4 {
            if device.single_codes_open(now, &Policy::standard()) {
                assert_rejected(&mut device, [unexpiring(wrong_single(ATTACKER - number))], now);
                guesses += 1;
            }
        }
        let owner = unexpiring(pair(number, N + 3 * u64::from(number)));
        assert_eq!(verdict_at(&mut device, owner, now), Verdict::Accepted);
        assert_eq!(device.consecutive_failures, 0);
    }
    // The burst, and one for each 36 hours of the 29 days.
    assert_eq!(guesses, BURST + 29 * 24 / 36);
}

// ------ what is remembered of successes ------

#[test]
fn a_success_is_forgotten_two_minutes_after_its_auth_expired_and_not_before() {
    let old = Accepted {
        auth_id: auth_id(50),
        write_id: write_id(50),
        expires_at: EXPIRES,
    };
    let device = Device {
        accepted: vec![old],
        ..never_failed()
    };
    let forgotten = EXPIRES.plus(SECOND * 120);
    for (now, remembered) in [
        (NOW, true),
        (EXPIRES, true),
        (forgotten.minus(MILLISECOND), true),
        (forgotten, false),
    ] {
        let (_, new) = written(try_at(&device, unexpiring(single(1, N)), now));
        let ids: Vec<_> = new.accepted.iter().map(|entry| entry.auth_id).collect();
        let expected = if remembered {
            vec![auth_id(50), auth_id(1)]
        } else {
            vec![auth_id(1)]
        };
        assert_eq!(ids, expected, "{now:?}");
    }
}

#[test]
fn a_failure_forgets_no_success() {
    let old = Accepted {
        auth_id: auth_id(50),
        write_id: write_id(50),
        expires_at: Timestamp::from_secs(1),
    };
    let device = Device {
        accepted: vec![old],
        ..never_failed()
    };
    for wrong in [wrong_single(1), wrong_pair(1)] {
        assert_eq!(written(try_at(&device, wrong, NOW)).1.accepted, [old]);
    }
}

#[test]
fn a_write_is_recognised_by_both_of_its_ids() {
    for (attempt, verdict) in [
        (single(1, N), Verdict::Accepted),
        (pair(1, N), Verdict::Accepted),
        (single(1, N - 100), Verdict::Replayed),
        (wrong_single(1), Verdict::Rejected),
        (wrong_pair(1), Verdict::Rejected),
    ] {
        let device = written(try_at(&never_failed(), attempt, NOW)).1;
        assert_eq!(device.verdict_of(auth_id(1), write_id(1)), Some(verdict));
        assert_eq!(device.verdict_of(auth_id(1), write_id(2)), None);
        assert_eq!(device.verdict_of(auth_id(2), write_id(1)), None);
        assert_eq!(device.verdict_of(auth_id(2), write_id(2)), None);
    }
    assert_eq!(never_failed().verdict_of(auth_id(1), write_id(1)), None);
}

#[test]
fn a_success_is_recognised_after_later_writes_and_a_failure_is_not() {
    let mut device = never_failed();
    assert_eq!(verdict_at(&mut device, single(1, N), NOW), Verdict::Accepted);
    assert_rejected(&mut device, [wrong_single(2)], NOW);
    assert_eq!(verdict_at(&mut device, single(3, N + 1), NOW), Verdict::Accepted);
    assert_eq!(device.verdict_of(auth_id(1), write_id(1)), Some(Verdict::Accepted));
    assert_eq!(device.verdict_of(auth_id(3), write_id(3)), Some(Verdict::Accepted));
    assert_eq!(device.verdict_of(auth_id(1), write_id(3)), None);
    // So it is decided again and counted twice: on the safe side.
    assert_eq!(device.verdict_of(auth_id(2), write_id(2)), None);
}

// ------ the operator ------

#[test]
fn an_unlock_opens_single_codes_and_changes_exactly_this() {
    let device = Device {
        consecutive_failures: 100,
        not_before: NOW.plus(HOUR),
        budget_at: NOW.plus(REFILL * 40),
        ..lived_in()
    };
    assert_eq!(
        device.unlocked(NOW, &Policy::standard()),
        Device {
            version: device.version + 1,
            consecutive_failures: 0,
            not_before: Timestamp::EPOCH,
            budget_at: NOW.plus(REFILL * 14),
            ..device.clone()
        }
    );
}

#[test]
fn an_unlock_never_takes_budget_away() {
    for debt in [0, 1, 13, 14] {
        let device = Device {
            budget_at: NOW.plus(REFILL * debt),
            ..lived_in()
        };
        assert_eq!(device.unlocked(NOW, &Policy::standard()).budget_at, device.budget_at);
    }
    assert_eq!(
        never_failed().unlocked(NOW, &Policy::standard()).budget_at,
        Timestamp::EPOCH
    );
}

#[test]
fn an_unlock_allows_six_wrong_codes_at_most() -> Result<(), PolicyError> {
    for policy in [Policy::standard(), Policy::strict(), Policy::custom(6, 36, 1)?] {
        let (_, exhausted) = guesses_until(NOW.plus(policy.refill()), never_failed(), &policy, NOW);
        let unlocked_at = NOW.plus(HOUR * 10);
        let unlocked = exhausted.unlocked(unlocked_at, &policy);
        // At most five minutes of ladder lie between the six; then the budget is empty for one refill.
        let end = unlocked_at.plus(policy.refill());
        let (guesses, _) = guesses_until(end, unlocked, &policy, unlocked_at);
        assert_eq!(guesses, 6, "{policy:?}");
    }
    Ok(())
}

// ------ whose, and how it is written ------

#[test]
fn an_auth_belongs_to_one_client() -> Result<(), NameError> {
    let auth = Auth {
        id: auth_id(1),
        key: DeviceKey {
            owner: Owner::parse("shop")?,
            user: UserName::parse("alice")?,
            device: DeviceName::parse("phone")?,
        },
        issued_at: NOW,
        expires_at: EXPIRES,
        device: never_failed(),
    };
    assert!(auth.belongs_to(&Owner::parse("shop")?));
    for other in ["Shop", "shop2", "sho", "bank"] {
        assert!(!auth.belongs_to(&Owner::parse(other)?), "{other}");
    }
    Ok(())
}

#[test]
fn written_forms_are_read_back_and_nothing_else_is() {
    assert_eq!(
        Status::ALL.map(Status::as_str),
        ["ACTIVATION_REQUIRED", "ACTIVE", "DISABLED"]
    );
    assert_eq!(Verdict::ALL.map(Verdict::as_str), ["ACCEPTED", "REPLAYED", "REJECTED"]);
    for status in Status::ALL {
        assert_eq!(Status::parse(status.as_str()), Some(status));
    }
    for verdict in Verdict::ALL {
        assert_eq!(Verdict::parse(verdict.as_str()), Some(verdict));
    }
    for raw in ["", "active", "ACTIVE ", "Accepted", "UNKNOWN"] {
        assert_eq!((Status::parse(raw), Verdict::parse(raw)), (None, None), "{raw:?}");
    }
}

fn new_seed() -> Result<NewSeed, NameError> {
    Ok(NewSeed {
        seed_ref: SeedRef::new("mfa/seed/new", "1")?,
        parameters: OtpParameters {
            digits: Digits::Eight,
            ..OtpParameters::default()
        },
    })
}

#[test]
fn an_activation_uses_its_step_and_puts_the_seed_into_use() -> Result<(), Box<dyn std::error::Error>> {
    let step = N;
    for status in [Status::ActivationRequired, Status::Active] {
        let held = Device {
            status,
            ..never_failed()
        };
        let seed = new_seed()?;
        let decision = decide_activation(&held, &seed, &single(1, step), NOW, &Policy::standard());
        let Decision::Write {
            verdict: Verdict::Accepted,
            device,
        } = decision
        else {
            return Err(format!("{status:?}: {decision:?}").into());
        };
        assert_eq!((device.status, device.last_step), (Status::Active, Step(step)));
        assert_eq!((&device.seed_ref, device.parameters), (&seed.seed_ref, seed.parameters));
        let replayed = decide(&device, &single(2, step), NOW, &Policy::standard());
        assert!(matches!(
            replayed,
            Decision::Write {
                verdict: Verdict::Replayed,
                ..
            }
        ));
    }
    Ok(())
}

#[test]
fn a_wrong_activation_code_is_counted_like_any_other_and_changes_nothing_else() -> Result<(), Box<dyn std::error::Error>>
{
    let mut device = Device {
        status: Status::ActivationRequired,
        ..never_failed()
    };
    for wrong in 1..=5 {
        let decision = decide_activation(&device, &new_seed()?, &wrong_single(wrong), NOW, &Policy::standard());
        let Decision::Write {
            verdict: Verdict::Rejected,
            device: rejected,
        } = decision
        else {
            return Err(format!("{decision:?}").into());
        };
        assert_eq!((rejected.status, &rejected.seed_ref), (device.status, &device.seed_ref));
        assert_eq!(rejected.total_failures, u64::from(wrong));
        device = rejected;
    }
    let gated = decide_activation(&device, &new_seed()?, &single(6, N), NOW, &Policy::standard());
    assert!(matches!(gated, Decision::Refuse(Refusal::TwoCodesRequired { .. })));
    let pair = decide_activation(&device, &new_seed()?, &pair(6, N), NOW, &Policy::standard());
    assert!(matches!(
        pair,
        Decision::Write {
            verdict: Verdict::Accepted,
            ..
        }
    ));
    Ok(())
}

#[test]
fn a_seed_of_another_period_is_activated_and_the_time_that_was_used_stays_used()
-> Result<(), Box<dyn std::error::Error>> {
    let policy = Policy::standard();
    for (own, new) in [(Period::Thirty, Period::Sixty), (Period::Sixty, Period::Thirty)] {
        let device = Device {
            parameters: OtpParameters {
                period: own,
                ..OtpParameters::default()
            },
            last_step: Step::at(NOW, own),
            ..never_failed()
        };
        let seed = NewSeed {
            parameters: OtpParameters {
                period: new,
                ..OtpParameters::default()
            },
            ..new_seed()?
        };
        let verdict = |step| match decide_activation(&device, &seed, &single(1, step), NOW, &policy) {
            Decision::Write { verdict, device } => Some((verdict, device.last_step)),
            Decision::Refuse(_) => None,
        };
        let used = Step::at(device.last_step.next().start(own).minus(Duration::from_secs(1)), new);
        assert_eq!(verdict(used.0), Some((Verdict::Replayed, device.last_step)), "{own:?}");
        assert_eq!(
            verdict(used.next().0),
            Some((Verdict::Accepted, used.next())),
            "{own:?}"
        );
    }
    Ok(())
}

#[test]
fn a_disabled_device_is_not_activated() -> Result<(), Box<dyn std::error::Error>> {
    let held = Device {
        status: Status::Disabled,
        ..never_failed()
    };
    let decision = decide_activation(&held, &new_seed()?, &single(1, N), NOW, &Policy::standard());
    assert_eq!(decision, Decision::Refuse(Refusal::Disabled));
    Ok(())
}
