//! What a command works on: a deployment on AWS, or the local stack. [`Target::open`] finds it and reads its settings.

mod clock;
mod credentials;
mod local_stack;
mod open;
mod settings;

pub use clock::StackClock;
pub use credentials::explain_credentials;
pub use open::{Deployment, Needs, Target};
pub use settings::{Setting, Settings};
