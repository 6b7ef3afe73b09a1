//! How much CPU this process has used: what a collector without a queue is scaled by.

/// `/proc` counts in hundredths of a second on every Linux, whatever the kernel's own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of CPU this process has used; none where the system does not tell.
#[must_use]
pub(crate) fn seconds() -> Option<f64> {
    of(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// From a line of `/proc/PID/stat`, `proc(5)`: user and system time are its 14th and 15th fields.
fn of(stat: &str) -> Option<f64> {
    // The second field is the program's name, which may hold anything, in parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 100 1 1";
        assert_eq!(of(stat), Some(3.0));
    }

    #[test]
    fn ignores_log_lines_of_another_form() {
        assert_eq!(of("7 (a) S 1"), None);
    }
}
