//! Figures, and how they are written.

/// The middle of some figures; 0 of none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => figures[odd / 2],
        even => f64::midpoint(figures[even / 2 - 1], figures[even / 2]),
    }
}

/// By how much the second of two figures grows with the first: the slope of the line that fits best (least squares).
pub fn trend(points: &[(f64, f64)]) -> f64 {
    let count = points.len().max(1) as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x).powi(2))
    });
    if below > 0.0 { above / below } else { 0.0 }
}

/// A whole number with its thousands set apart.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as MiB.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn a_trend_is_what_is_left_of_a_saw() {
        let saw = |slope: f64| (0..60).map(move |x| (f64::from(x), slope * f64::from(x) + f64::from(x % 3) * 10.0));
        assert!((trend(&saw(5.0).collect::<Vec<_>>()) - 5.0).abs() < 0.1);
        assert!(trend(&saw(0.0).collect::<Vec<_>>()).abs() < 0.1);
        assert_eq!([trend(&[]), trend(&[(1.0, 2.0)])], [0.0, 0.0]);
    }

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!([0.0, 999.4, 1_000.0, 2_160_000_000.0].map(thousands), ["0", "999", "1,000", "2,160,000,000"]);
        assert_eq!(mebibytes(60 << 20), "60 MiB");
    }
}
