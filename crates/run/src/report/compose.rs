//! Pieces of a self-contained page for other reports than a run's: sections, tables, bars, folded details.

use super::markup::{self, Cell, escape};

/// A page in the making: the style of all reports, no scripts, no network.
pub struct Page {
    html: String,
}

impl Page {
    /// A page with a title.
    pub fn new(title: &str) -> Self {
        let html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{0}</title>\n<style>\n{1}</style>\n</head>\n\
             <body>\n<main>\n<h1>{0}</h1>\n",
            escape(title),
            include_str!("style.css")
        );
        Self { html }
    }

    /// Adds a section; `content` is HTML made by the functions of this module.
    pub fn section(&mut self, heading: &str, content: &str) {
        let heading = escape(heading);
        self.html.push_str(&format!("<section>\n<h2>{heading}</h2>\n{content}</section>\n"));
    }

    /// The whole page.
    pub fn finish(mut self) -> String {
        self.html.push_str("</main>\n</body>\n</html>\n");
        self.html
    }
}

/// A table: headings of all columns, then the rows, whose first cell is the heading of the row.
pub fn table(caption: &str, headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|&heading| heading.to_owned()).collect();
    let rows: Vec<(String, Vec<Cell>)> = rows
        .iter()
        .filter_map(|row| {
            let (first, rest) = row.split_first()?;
            Some((first.clone(), rest.iter().map(Cell::text).collect()))
        })
        .collect();
    markup::table(caption, &[], &headings, &rows)
}

/// A paragraph of text.
pub fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escape(text))
}

/// Text as it is, in a box.
pub fn verbatim(text: &str) -> String {
    format!("<pre>{}</pre>\n", escape(text))
}

/// HTML that a click unfolds.
pub fn details(summary: &str, content: &str) -> String {
    format!("<details>\n<summary>{}</summary>\n{content}</details>\n", escape(summary))
}

/// Figures side by side, as far as there is room.
pub fn charts(figures: &[String]) -> String {
    format!("<div class=\"charts\">\n{}</div>\n", figures.concat())
}

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// What it stands for.
    pub label: String,
    /// Its length; what is negative or not finite is drawn as nothing.
    pub value: f64,
    /// The value in words.
    pub shown: String,
}

const WIDTH: f64 = 640.0;
const ROW: f64 = 24.0;
const LABELS: f64 = 230.0;
const VALUES: f64 = 110.0;

/// Horizontal bars from zero as a figure. `id` must be unique in the page.
pub fn bars(title: &str, unit: &str, id: &str, bars: &[Bar]) -> String {
    let title = escape(title);
    let longest = bars.iter().map(|bar| bar.value).filter(|v| v.is_finite()).fold(0.0, f64::max);
    let height = ROW * bars.len() as f64 + 8.0;
    let words: Vec<String> = bars.iter().map(|bar| format!("{} {}", bar.label, bar.shown)).collect();
    let mut out = format!(
        "<figure>\n<figcaption>{title}<small> ({})</small></figcaption>\n<svg viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" aria-labelledby=\"{id}\"><title id=\"{id}\">{title}: {}</title>\n",
        escape(unit),
        escape(&words.join("; "))
    );
    for (i, bar) in bars.iter().enumerate() {
        let middle = 4.0 + ROW * (i as f64 + 0.5);
        let value = if bar.value.is_finite() { bar.value.max(0.0) } else { 0.0 };
        let length = if longest > 0.0 { value / longest * (WIDTH - LABELS - VALUES) } else { 0.0 };
        let (top, text, end) = (middle - 8.0, middle + 4.0, LABELS + length + 6.0);
        let mut label: String = bar.label.chars().take(34).collect();
        if bar.label.chars().count() > 34 {
            label.pop();
            label.push('…');
        }
        out.push_str(&format!(
            "<text class=\"end\" x=\"{}\" y=\"{text:.1}\">{}</text><rect class=\"d{}\" x=\"{LABELS}\" y=\"{top:.1}\" \
             width=\"{length:.1}\" height=\"16\"/><text x=\"{end:.1}\" y=\"{text:.1}\">{}</text>\n",
            LABELS - 8.0,
            escape(&label),
            0,
            escape(&bar.shown)
        ));
    }
    out.push_str("</svg>\n</figure>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values_and_text_is_escaped() {
        let bar = |label: &str, value| Bar { label: label.to_owned(), value, shown: "<1>".to_owned() };
        let html = bars("t", "u", "x", &[bar("a", 4.0), bar("b", 1.0), bar("c", f64::NAN)]);
        let widths: Vec<f64> = html
            .match_indices("width=\"")
            .map(|(at, word)| html[at + word.len()..].split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(widths, [300.0, 75.0, 0.0]);
        assert!(html.contains("&lt;1&gt;") && !html.contains("<1>"));
        let mut page = Page::new("a & b");
        page.section("s", &table("c", &["x", "y"], &[vec!["r".to_owned(), "<i>".to_owned()]]));
        let html = page.finish();
        assert!(
            html.contains("<h1>a &amp; b</h1>") && html.contains("&lt;i&gt;") && html.ends_with("</html>\n")
        );
    }
}
