//! Writing HTML: escaping, and tables.

/// `text` so that HTML shows it as it is, in content and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // HTML has no way to say these.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// One cell of a table: text, and the class that says how to show it.
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) class: &'static str,
}

impl Cell {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "" }
    }

    pub(super) fn number(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "n" }
    }
}

/// A table with a heading for each column and each row. `groups` are headings over several columns each.
pub(super) fn table(
    caption: &str,
    groups: &[(String, usize)],
    headings: &[String],
    rows: &[(String, Vec<Cell>)],
) -> String {
    let mut out = format!("<div class=\"wide\"><table>\n<caption>{}</caption>\n<thead>\n", escape(caption));
    if !groups.is_empty() {
        out.push_str("<tr><td></td>");
        for (text, columns) in groups {
            out.push_str(&format!("<th scope=\"colgroup\" colspan=\"{columns}\">{}</th>", escape(text)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("<tr>");
    for heading in headings {
        out.push_str(&format!("<th scope=\"col\">{}</th>", escape(heading)));
    }
    out.push_str("</tr>\n</thead>\n<tbody>\n");
    for (heading, cells) in rows {
        out.push_str(&format!("<tr><th scope=\"row\">{}</th>", escape(heading)));
        for cell in cells {
            out.push_str(&format!("<td class=\"{}\">{}</td>", cell.class, escape(&cell.text)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
    out
}
