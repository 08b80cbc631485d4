//! HTTP as API Gateway's REST proxy events carry it: events, bodies, callers, errors, answers, and the boundary around
//! them.
//!
//! Nothing here knows a table or a seed. Endpoints implement [`Endpoint`]; [`Boundary`] does what all have in common.

pub mod body;
pub mod boundary;
pub mod caller;
pub mod error;
pub mod event;
pub mod response;

pub use boundary::{Boundary, Endpoint};
