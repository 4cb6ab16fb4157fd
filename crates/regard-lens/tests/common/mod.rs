//! What the tests of this crate share.
#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]

pub mod golden;
#[cfg(feature = "hub")]
pub mod hub_server;
pub mod tiny;

use regard_lens::{AttentionObserver, LayerAttention, LensError};

/// Looks at nothing.
pub struct NoObserver;

impl AttentionObserver for NoObserver {
    fn layer(&mut self, _: &LayerAttention<'_>) -> Result<(), LensError> {
        Ok(())
    }
}
