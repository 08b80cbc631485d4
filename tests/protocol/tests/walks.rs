//! Random orders of events of a setup that is too large to be explored; when an invariant breaks, a short one is found.
//!
//! `PROPTEST_CASES=1000000` takes more, `PROPTEST_RNG_SEED=…` others.

use std::cell::Cell;
use std::io::Write as _;

use proptest::prelude::*;
use proptest::test_runner::Config;
use protocol::{Action, Protocol, Setup, State};
use shared::names::NameError;
use stateright::Model as _;

const CASES: u32 = 20_000;
const MOST_EVENTS: usize = 120;

/// Takes one of the events that are possible, by each choice, until none is or an invariant breaks.
fn walk(model: &Protocol, choices: &[u16]) -> Option<(Vec<Action>, State)> {
    let mut state = model.init_states().pop()?;
    let (mut taken, mut possible) = (Vec::new(), Vec::new());
    for choice in choices {
        possible.clear();
        model.actions(&state, &mut possible);
        let number = usize::from(*choice).checked_rem(possible.len());
        let Some(action) = number.and_then(|number| possible.get(number)) else {
            break;
        };
        state = model.next_state(&state, *action)?;
        taken.push(*action);
        if !state.broken().all().is_empty() {
            break;
        }
    }
    Some((taken, state))
}

fn config() -> Config {
    let given = Config::default();
    Config {
        cases: if given.cases == 256 { CASES } else { given.cases },
        failure_persistence: None,
        ..given
    }
}

#[test]
fn no_random_order_of_events_breaks_an_invariant() -> Result<(), NameError> {
    let model = Protocol::new(Setup::large())?;
    let config = config();
    let (events, twice) = (Cell::new(0), Cell::new(0));
    let line = format!("{} walks, seed {:?}", config.cases, config.rng_seed);
    proptest!(config, |(choices in prop::collection::vec(any::<u16>(), MOST_EVENTS))| {
        let Some((taken, state)) = walk(&model, &choices) else {
            return Err(TestCaseError::fail("an event that was possible is not"));
        };
        prop_assert!(state.broken().all().is_empty(), "{:?} after {taken:?}", state.broken().all());
        events.set(events.get() + taken.len());
        twice.set(twice.get() + u32::from(state.successes() > 1));
    });
    // Nobody is left to tell if standard error is gone.
    let _ = writeln!(std::io::stderr(), "{line}: {} events", events.get());
    assert!(twice.get() > 0, "no walk got to a second success");
    Ok(())
}
