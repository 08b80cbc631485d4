//! Files of the repository compared with the code and with each other. Nothing is started here.

mod documents;
mod events;
mod manifest;
mod registration;
mod template;
