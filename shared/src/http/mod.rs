//! HTTP as API Gateway's REST proxy events carry it: events, bodies, callers, errors, answers, and the boundary around
//! them.
//!
//! Nothing here knows a table or a seed. Functions implement [`Endpoint`]; [`Boundary`] does what every function does
//! around one.

pub mod body;
pub mod boundary;
pub mod caller;
pub mod error;
pub mod event;
pub mod path;
pub mod response;
mod verdict;

pub use boundary::{Boundary, Endpoint, Notes};
pub use event::{ApiRequest, Event};
