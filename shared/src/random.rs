//! Randomness as the service needs it, and the only use of the operating system's generator.
//!
//! Everything below a `main` takes a [`Random`]; a test passes one that repeats.

use std::sync::Arc;

use crate::error::RandomError;

/// A cryptographic generator.
pub trait Random: Send + Sync {
    /// Sixteen random bytes.
    ///
    /// # Errors
    /// [`RandomError`] if the generator fails.
    fn sixteen_bytes(&self) -> Result<[u8; 16], RandomError>;
}

impl<R: Random + ?Sized> Random for Arc<R> {
    fn sixteen_bytes(&self) -> Result<[u8; 16], RandomError> {
        (**self).sixteen_bytes()
    }
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn sixteen_bytes(&self) -> Result<[u8; 16], RandomError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| RandomError(Box::new(error)))?;
        Ok(bytes)
    }
}
