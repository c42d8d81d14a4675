//! The matrix as a picture. Each column has its own scale, since tasks differ in what a good score is; the number stands
//! in every cell, and a frame marks the stage that trained the task.

use std::fmt::Write as _;

use super::Matrix;

const CELL: (usize, usize) = (76, 30);
const LEFT: usize = 150;
const TOP: usize = 110;

pub(super) fn draw(matrix: &Matrix) -> String {
    let base = matrix.base.as_ref().map(|row| ("base", row));
    let stages = matrix.stages.iter().map(String::as_str).zip(&matrix.scores);
    let rows: Vec<(&str, &Vec<f64>)> = base.into_iter().chain(stages).collect();
    let (width, height) = (LEFT + CELL.0 * matrix.tasks.len() + 10, TOP + CELL.1 * rows.len() + 10);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>scores of tasks after each stage</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let mut line = |text: String| _ = writeln!(svg, "{text}");
    for (i, task) in matrix.tasks.iter().enumerate() {
        let x = LEFT + CELL.0 * i + CELL.0 / 2;
        let y = TOP - 8;
        let name = escape(&task.task);
        line(format!("<text x=\"{x}\" y=\"{y}\" transform=\"rotate(-40 {x} {y})\">{name}</text>"));
    }
    let first = usize::from(matrix.base.is_some());
    for (r, (name, row)) in rows.iter().enumerate() {
        let y = TOP + CELL.1 * r;
        let middle = y + CELL.1 / 2 + 4;
        line(format!("<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>", LEFT - 8, escape(name)));
        for (i, score) in row.iter().enumerate() {
            let x = LEFT + CELL.0 * i;
            let column = || rows.iter().map(|(_, row)| row[i]);
            let low = column().fold(f64::INFINITY, f64::min);
            let high = column().fold(f64::NEG_INFINITY, f64::max);
            let share = if high > low { (score - low) / (high - low) } else { 0.5 };
            let own = matrix.tasks[i].stage.is_some_and(|stage| stage + first == r);
            let frame = if own { " stroke=\"#000000\" stroke-width=\"2\"" } else { "" };
            let (w, h) = (CELL.0 - 3, CELL.1 - 3);
            let (fill, ink) = (colour(share), if share > 0.65 { "#ffffff" } else { "#000000" });
            line(format!("<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{fill}\"{frame}/>"));
            let at = x + w / 2;
            line(format!(
                "<text x=\"{at}\" y=\"{middle}\" text-anchor=\"middle\" fill=\"{ink}\">{score:.3}</text>"
            ));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// From near white to dark blue, readable without colour too.
fn colour(share: f64) -> String {
    let between = |from: f64, to: f64| (from + (to - from) * share.clamp(0.0, 1.0)).round() as u8;
    format!("#{:02x}{:02x}{:02x}", between(240.0, 8.0), between(246.0, 64.0), between(252.0, 129.0))
}

/// A name as XML has it. Most control characters cannot stand in XML at all, not even escaped.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
