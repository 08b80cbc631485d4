//! Files of the repository compared with the code and with each other. Nothing is started here.

mod contract;
mod documents;
mod events;
mod iam;
mod manifest;
mod registration;
mod template;
