//! Quantities as Kubernetes writes them: `250m`, `512Mi`, `1e3`.
//!
//! By hand, because it is one function: they are only compared and divided here, where a double is exact enough. kube_quantity would
//! bring decimal arithmetic and a parser library into every program.

/// The number that a quantity of Kubernetes stands for; none if it is none.
#[must_use]
pub fn read(text: &str) -> Option<f64> {
    let (number, factor) = match text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
        // `1e3` and `1E3` are numbers, though `1E` has a unit.
        number if number.contains(['e', 'E']) => (text, 1.0),
        number => (number, unit(&text[number.len()..])?),
    };
    Some(number.parse::<f64>().ok()? * factor).filter(|number| number.is_finite())
}

/// What one of a quantity's unit is.
fn unit(name: &str) -> Option<f64> {
    const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let power = |base: f64, first: i32, units: &[&str]| {
        (first..).zip(units).find(|(_, unit)| **unit == name).map(|(power, _)| base.powi(power))
    };
    power(1000.0, -3, &DECIMAL).or_else(|| power(1024.0, 1, &BINARY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1500", Some(1500.0))]
    #[case("0.5", Some(0.5))]
    #[case("250m", Some(0.25))]
    #[case("100n", Some(1e-7))]
    #[case("2k", Some(2000.0))]
    #[case("1E", Some(1e18))]
    #[case("1e3", Some(1000.0))]
    #[case("2E-3", Some(0.002))]
    #[case("1Ki", Some(1024.0))]
    #[case("2Pi", Some(2_251_799_813_685_248.0))]
    #[case("", None)]
    #[case("m", None)]
    #[case("1kg", None)]
    #[case("many", None)]
    fn quantities_are_read_as_kubernetes_does(#[case] text: &str, #[case] number: Option<f64>) {
        let near = |a: f64, b: f64| (a - b).abs() <= b * 1e-9;
        let same = match (read(text), number) {
            (Some(read), Some(number)) => near(read, number),
            (read, number) => read == number,
        };
        assert!(same, "{text}: {:?}", read(text));
    }
}
