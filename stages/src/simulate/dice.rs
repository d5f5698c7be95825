//! Random draws from one seeded stream: the only source of chance in the simulator.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// A seeded stream of random numbers; the same seed gives the same draws on every machine.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// Starts the stream of this seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Returns a number in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// Returns a number in [low, high).
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Returns an integer in [0, n); 0 when n is 0.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        if n == 0 { 0 } else { self.0.random_range(0..n) }
    }

    /// Returns 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0.random::<u64>()
    }

    /// Returns true with probability `p`.
    pub(super) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Draws from the exponential distribution of this mean.
    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Draws from the standard normal distribution (Box-Muller, one of the pair).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Draws from the log-normal distribution of this median; `sigma` is the deviation of the logarithm.
    pub(super) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    /// Picks one of the alternatives by weight, or `None` when the weights leave a rest below 1 and it falls there.
    pub(super) fn pick<T: Copy>(&mut self, alternatives: &[(f64, T)]) -> Option<T> {
        let mut at = self.unit();
        for &(weight, value) in alternatives {
            if at < weight {
                return Some(value);
            }
            at -= weight;
        }
        None
    }
}
