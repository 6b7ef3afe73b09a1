//! Always as many.

use super::Rule;
use crate::stage::Look;

/// Always that many.
#[derive(Clone, Copy, Debug)]
pub struct Fixed(pub u32);

impl Rule for Fixed {
    fn replicas(&mut self, _: &Look) -> Option<u32> {
        Some(self.0)
    }
}
