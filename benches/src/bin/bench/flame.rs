//! Stacks as `perf script` prints them, folded, and drawn as a flame graph (Brendan Gregg, "The flame graph", 2016).

use std::collections::BTreeMap;
use std::fmt::Write;

const WIDTH: f64 = 1_200.0;
const ROW: f64 = 16.0;
/// Narrower boxes are not drawn.
const NARROWEST: f64 = 0.3;
/// A letter of the font takes about so much.
const LETTER: f64 = 6.6;
/// Stacks are cut at this depth.
const DEEPEST: usize = 100;

/// A function, how often it was on the stack, and what it called.
#[derive(Debug, Default)]
pub struct Frame {
    pub samples: u64,
    calls: BTreeMap<String, Frame>,
}

/// Folds the samples of `perf script -F comm,ip,sym`: a line that names the thread, then the stack with the innermost
/// function first, then an empty line.
pub fn fold(script: &str) -> Frame {
    let mut root = Frame::default();
    for sample in script.split("\n\n") {
        let mut lines = sample.lines().filter(|line| !line.trim().is_empty());
        let Some(thread) = lines.next() else { continue };
        let mut stack: Vec<&str> = lines.map(function).collect();
        stack.push(thread.trim().trim_end_matches(':'));
        root.samples += 1;
        let mut frame = &mut root;
        for name in stack.iter().rev().take(DEEPEST) {
            frame = frame.calls.entry((*name).to_owned()).or_default();
            frame.samples += 1;
        }
    }
    root
}

/// The name in a line such as `  55d5c0 core::ptr::read+0x12`, without its place.
fn function(line: &str) -> &str {
    let (_, name) = line.trim().split_once(' ').unwrap_or(("", line.trim()));
    let name = name.rsplit_once("+0x").map_or(name, |(name, _)| name);
    // Rust's names end with a hash.
    name.rsplit_once("::h").filter(|(_, hash)| hash.len() == 16).map_or(name, |(name, _)| name)
}

impl Frame {
    fn depth(&self) -> usize {
        1 + self.calls.values().map(Self::depth).max().unwrap_or_default()
    }
}

/// Draws it, the callers below what they call.
pub fn draw(title: &str, root: &Frame) -> String {
    let height = (root.depth() as f64 + 2.0) * ROW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n<text x=\"4\" y=\"12\">{}</text>\n",
        escaped(title)
    );
    let each = WIDTH / root.samples.max(1) as f64;
    let name = format!("all {} samples", root.samples);
    write_frame(&mut svg, (&name, root), (0.0, height - ROW), (each, root.samples));
    svg.push_str("</svg>\n");
    svg
}

// Writing to a String can't fail.
fn write_frame(svg: &mut String, (name, frame): (&str, &Frame), (left, top): (f64, f64), (each, all): (f64, u64)) {
    let width = frame.samples as f64 * each;
    if width < NARROWEST {
        return;
    }
    let share = frame.samples as f64 * 100.0 / all.max(1) as f64;
    let warmth = 60 + name.bytes().map(usize::from).sum::<usize>() % 140;
    let _ = write!(
        svg,
        "<g><title>{0} {share:.1} %</title><rect x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{1}\" fill=\"rgb(230,{warmth},60)\"/>",
        escaped(name),
        ROW - 1.0
    );
    let room = (width / LETTER) as usize;
    if room > 3 {
        let short: String = name.chars().take(room).collect();
        let _ = write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", left + 2.0, top + 12.0, escaped(&short));
    }
    svg.push_str("</g>\n");
    let mut left = left;
    for (name, call) in &frame.calls {
        write_frame(svg, (name, call), (left, top - ROW), (each, all));
        left += call.samples as f64 * each;
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "worker:\n\t 55d5 core::ptr::read::h0123456789abcdef+0x12\n\t 55d6 main+0x1\n\n\
                          worker:\n\t 55d7 <Vec<T>>::push+0x2\n\t 55d6 main+0x9\n\n";

    #[test]
    fn stacks_that_begin_the_same_are_one() {
        let root = fold(SCRIPT);
        let main = &root.calls["worker"].calls["main"];
        assert_eq!((root.samples, main.samples, main.calls["core::ptr::read"].samples), (2, 2, 1));
        assert_eq!(main.calls.len(), 2);
    }

    #[test]
    fn each_function_is_as_wide_as_its_share() {
        let svg = draw("sink", &fold(SCRIPT));
        assert!(svg.contains("<title>main 100.0 %</title><rect x=\"0.0\""), "{svg}");
        assert!(
            svg.contains("<title>&lt;Vec&lt;T&gt;&gt;::push 50.0 %</title>") && svg.contains("width=\"600.0\""),
            "{svg}"
        );
    }
}
