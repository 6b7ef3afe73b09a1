//! The rule `crowd`, for counts: a decayed Gamma-Poisson model of each key with the traffic of the whole metric as its exposure.
