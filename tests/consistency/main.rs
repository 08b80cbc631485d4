//! Files of the repository compared with each other. Nothing is started here.

mod events;
