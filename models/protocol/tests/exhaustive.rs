//! Every order of events of some setups: no invariant is broken in any state, and every mutant breaks one.

use std::io::Write as _;

use protocol::{Invariant, Mutant, Protocol, Setup};
use shared::names::NameError;
use stateright::{Checker as _, HasDiscoveries, Model as _};

fn report(line: &str) {
    // If standard error is gone, there is no one to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn no_order_of_events_breaks_an_invariant() -> Result<(), NameError> {
    let mut all = 0;
    for (name, setup) in Setup::all() {
        let checker = Protocol::new(setup)?.checker().threads(2).spawn_bfs().join();
        report(&format!(
            "{} states, up to {} events, {}",
            checker.unique_state_count(),
            checker.max_depth(),
            name
        ));
        checker.assert_properties();
        all += checker.unique_state_count();
    }
    report(&format!("{all} states in all"));
    // docs/security.md names the number. A faster model must not be a smaller one.
    assert_eq!(all, 4_287_349);
    Ok(())
}

#[test]
fn every_mutant_is_caught() -> Result<(), NameError> {
    for (mutant, invariant, setup) in Mutant::all() {
        let checker = Protocol::new(setup.with(mutant))?
            .checker()
            .threads(2)
            .finish_when(HasDiscoveries::AnyOf([invariant.name()].into()))
            .spawn_bfs()
            .join();
        let events = checker.discovery(invariant.name()).map(stateright::Path::into_actions);
        report(&format!("{mutant:?} breaks {}: {events:?}", invariant.name()));
        assert!(events.is_some(), "{mutant:?} was not caught");
    }
    Ok(())
}

#[test]
fn every_invariant_has_a_mutant() {
    for invariant in Invariant::ALL {
        let broken = Mutant::all().iter().any(|(_, breaks, _)| *breaks == invariant);
        assert!(broken, "{invariant:?}");
    }
}
