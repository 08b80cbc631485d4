//! What clients, attackers and operators do, over HTTP, against the whole service on this machine.
//!
//! A rule is proved in `shared` and its wiring in the functions. Here is what only the whole shows: HTTP, the gateway,
//! real stores, many requests at a time, and once each what a user relies on.

mod errors;
mod events;
mod leaks;
mod lifecycle;
mod registration;
mod sign_in;

/// What attackers and other clients try.
mod attacks {
    mod indistinguishable;
    mod isolation;
    mod lockout;
    mod pairs;
    mod replay;
}

/// Many requests at a time.
mod load {
    mod endurance;
    mod offer;
    mod races;
}

/// What the stores hold, what calls them, and what happens when they fail.
mod stores {
    mod budget;
    mod contracts;
    mod faults;
    mod sealed;
    mod seeds;
    mod upgrade;
}
