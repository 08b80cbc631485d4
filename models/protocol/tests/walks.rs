//! Random orders of events of a setup that is too large to be explored; when an invariant breaks, a short one is found.
//!
//! `PROPTEST_CASES` sets how many, `PROPTEST_RNG_SEED` the seed.

use std::cell::Cell;
use std::io::Write as _;
use std::mem::discriminant;

use proptest::prelude::*;
use proptest::test_runner::{Config, contextualize_config};
use protocol::{Action, Protocol, Setup, State};
use shared::names::NameError;
use stateright::Model as _;

const CASES: u32 = 20_000;
/// Twice as many events, in each of two setups.
const CASES_WITH_OPERATORS: u32 = 10_000;
const MOST_EVENTS: usize = 120;

/// Chooses one of the possible events: first its kind, since there are a hundred ways to send a request and one to write.
fn chosen(possible: &[Action], choice: u16) -> Option<Action> {
    let mut kinds = Vec::new();
    for kind in possible.iter().map(discriminant) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let choice = usize::from(choice);
    let kind = kinds.get(choice.checked_rem(kinds.len())?)?;
    let of_kind: Vec<_> = possible
        .iter()
        .filter(|action| discriminant(*action) == *kind)
        .collect();
    let number = (choice / kinds.len()).checked_rem(of_kind.len())?;
    of_kind.get(number).copied().copied()
}

/// Takes one event after another, by each choice, until none is possible or an invariant breaks.
fn walk(model: &Protocol, choices: &[u16]) -> Option<(Vec<Action>, State)> {
    let mut state = model.init_states().pop()?;
    let (mut taken, mut possible) = (Vec::new(), Vec::new());
    for choice in choices {
        possible.clear();
        model.actions(&state, &mut possible);
        let Some(action) = chosen(&possible, *choice) else {
            break;
        };
        state = model.next_state(&state, action)?;
        taken.push(action);
        if !state.broken().all().is_empty() {
            break;
        }
    }
    Some((taken, state))
}

fn config(cases: u32) -> Config {
    let own = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    // The environment comes last: otherwise a number equal to proptest's default would look as if it was not set.
    contextualize_config(own)
}

/// Walks, and checks that in at least one walk `happened` is true.
fn walks(setup: Setup, cases: u32, what: &str, happened: fn(&State) -> bool) -> Result<(), NameError> {
    let model = Protocol::new(setup)?;
    let config = config(cases);
    let (events, times) = (Cell::new(0), Cell::new(0));
    let (fewer, line) = (
        config.cases < cases,
        format!("{} walks, seed {:?}", config.cases, config.rng_seed),
    );
    proptest!(config, |(choices in prop::collection::vec(any::<u16>(), MOST_EVENTS))| {
        let Some((taken, state)) = walk(&model, &choices) else {
            return Err(TestCaseError::fail("an event that was possible is not"));
        };
        prop_assert!(state.broken().all().is_empty(), "{:?} after {taken:?}", state.broken().all());
        events.set(events.get() + taken.len());
        times.set(times.get() + u32::from(happened(&state)));
    });
    // If standard error is gone, there is no one to tell.
    let _ = writeln!(
        std::io::stderr(),
        "{line}: {} events, {} with {what}",
        events.get(),
        times.get()
    );
    assert!(times.get() > 0 || fewer, "no walk with {what}");
    Ok(())
}

#[test]
fn no_random_order_of_events_breaks_an_invariant() -> Result<(), NameError> {
    walks(Setup::large(), CASES, "a second success", |state| state.successes() > 1)
}

#[test]
fn no_random_order_of_activations_and_sign_ins_breaks_an_invariant() -> Result<(), NameError> {
    for setup in [
        Setup::large_with_operators(),
        Setup::large_with_operators().of_new_device(),
    ] {
        walks(
            setup,
            CASES_WITH_OPERATORS,
            "an activation and another success",
            |state| state.activated() && state.successes() > 1,
        )?;
    }
    Ok(())
}
