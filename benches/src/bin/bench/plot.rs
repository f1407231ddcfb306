//! A plot of latency against rate as SVG, both axes logarithmic.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Room for the numbers and names of the axes, and for the legend above.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;
/// Told apart without colours too, by their dashes.
const STYLES: [(&str, &str); 6] =
    [("#1f5fa8", ""), ("#1f5fa8", "6 4"), ("#c2410c", ""), ("#c2410c", "6 4"), ("#3f7d20", ""), ("#3f7d20", "6 4")];

/// A line of the plot.
#[derive(Debug, Clone)]
pub struct Line {
    pub name: String,
    /// Requests a second, and milliseconds.
    pub points: Vec<(f64, f64)>,
}

/// Draws lines.
pub fn draw(title: &str, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| &line.points).filter(|(x, y)| *x > 0.0 && *y > 0.0);
    let x = Axis::over(all().map(|(x, _)| *x), LEFT, WIDTH - RIGHT);
    let y = Axis::over(all().map(|(_, y)| *y), HEIGHT - BOTTOM, TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>{title}</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    for power in x.powers() {
        let place = x.place(power);
        line(&mut svg, (place, TOP), (place, HEIGHT - BOTTOM));
        text(&mut svg, (place, HEIGHT - BOTTOM + 18.0), "middle", &number(power));
    }
    for power in y.powers() {
        let place = y.place(power);
        line(&mut svg, (LEFT, place), (WIDTH - RIGHT, place));
        text(&mut svg, (LEFT - 8.0, place + 4.0), "end", &number(power));
    }
    text(&mut svg, (f64::midpoint(LEFT, WIDTH), HEIGHT - 10.0), "middle", "requests a second");
    text(&mut svg, (8.0, TOP - 12.0), "start", "ms");
    for (index, drawn) in lines.iter().enumerate() {
        let (colour, dashes) = STYLES[index % STYLES.len()];
        let points: Vec<String> = (drawn.points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0))
            .map(|(rate, latency)| format!("{:.1},{:.1}", x.place(*rate), y.place(*latency)))
            .collect();
        let style = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"");
        let _ = writeln!(svg, "<polyline points=\"{}\" {style}/>", points.join(" "));
        let (left, top) = (LEFT + (index % 3) as f64 * 225.0, 14.0 + (index / 3) as f64 * 16.0);
        let _ = writeln!(svg, "<line x1=\"{left}\" y1=\"{top}\" x2=\"{}\" y2=\"{top}\" {style}/>", left + 28.0);
        text(&mut svg, (left + 34.0, top + 4.0), "start", &drawn.name);
    }
    svg.push_str("</svg>\n");
    svg
}

/// A logarithmic axis over whole powers of ten.
struct Axis {
    least: i32,
    most: i32,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (least, most) = values
            .map(f64::log10)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
        if least > most {
            return Self { least: 0, most: 1, from, to };
        }
        let least = least.floor() as i32;
        Self { least, most: (most.ceil() as i32).max(least + 1), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.least)) / f64::from(self.most - self.least);
        self.from + share * (self.to - self.from)
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        (self.least..=self.most).map(|power| 10f64.powi(power))
    }
}

fn number(value: f64) -> String {
    if value >= 1_000.0 { crate::numbers::thousands(value) } else { format!("{value}") }
}

// Writing to a String can't fail.
fn line(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ddd\"/>");
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_stands_where_its_logarithm_does() {
        let axis = Axis::over([20.0, 5_000.0].into_iter(), 0.0, 300.0);
        assert_eq!((axis.least, axis.most), (1, 4));
        assert_eq!([10.0, 100.0, 10_000.0].map(|value| axis.place(value).round()), [0.0, 100.0, 300.0]);
        assert_eq!(axis.powers().collect::<Vec<_>>(), [10.0, 100.0, 1_000.0, 10_000.0]);
    }

    #[test]
    fn every_line_is_drawn_and_named() {
        let lines = [Line { name: "nginx p50".to_owned(), points: vec![(1_000.0, 0.1), (10_000.0, 1.0)] }];
        let svg = draw("Latency", &lines);
        assert!(svg.contains("points=\"70.0,370.0 740.0,50.0\"") && svg.contains(">nginx p50<"), "{svg}");
    }
}
