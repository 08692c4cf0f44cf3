//! Lab to an ordered list of steps; pure and deterministic.
