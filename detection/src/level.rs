//! The rule `level`, for sums and means: distance from a robust centre, calibrated by the tail of its own scores.
