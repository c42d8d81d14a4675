//! report.html: the account as a page with plots, self-contained.

use llama_pro_run::report::compose::{Bar, Page, bars, charts, details, paragraph, table, verbatim};

use super::{CorpusReport, SourceReport};

pub(super) fn page(report: &CorpusReport) -> String {
    let mut page = Page::new("Prepared corpus");
    let (seen, kept, dropped, failed) = report.totals();
    let sum = format!(
        "{} documents came in: {} kept, {} dropped, {} failed. Checked: in = kept + dropped + failed, for every source.",
        number(seen),
        number(kept),
        number(dropped),
        number(failed)
    );
    page.section("What came in, what is left", &(paragraph(&sum) + &sources(report)));
    page.section("Plots", &charts(&plots(report)));
    page.section("What each rule took", &report.sources.iter().map(rules).collect::<String>());
    page.section("Duplicates", &duplicates(report));
    page.section("Benchmarks", &contaminations(report));
    page.section("Provenance", &verbatim(&report.fingerprint));
    page.finish()
}

fn sources(report: &CorpusReport) -> String {
    let headings = [
        "source",
        "files",
        "bytes in",
        "documents in",
        "kept",
        "dropped",
        "failed",
        "training tokens",
        "held-out tokens",
        "bytes per token",
        "weight",
        "epochs",
    ];
    let row = |source: &SourceReport| {
        let counts = &source.documents;
        vec![
            source.name.clone(),
            number(source.files),
            number(source.input_bytes),
            number(counts.seen),
            number(counts.kept),
            number(counts.dropped.values().sum()),
            number(counts.failed.values().sum()),
            number(source.train.tokens),
            source.validation.map_or_else(|| "-".to_owned(), |side| number(side.tokens)),
            format!("{:.3}", source.bytes_per_token),
            format!("{}", source.weight),
            source.epochs.map_or_else(|| "-".to_owned(), |epochs| format!("{epochs:.3}")),
        ]
    };
    let caption = report.training_tokens.map_or_else(
        || "The recipe names no training run, so no epochs are estimated.".to_owned(),
        |tokens| format!("Epochs: how often a run of {} tokens reads each source.", number(tokens)),
    );
    table(&caption, &headings, &report.sources.iter().map(row).collect::<Vec<_>>())
}

fn plots(report: &CorpusReport) -> Vec<String> {
    let of = |label: &str, n: u64| Bar { label: label.to_owned(), value: n as f64, shown: number(n) };
    let mut figures = Vec::new();
    let tokens: Vec<Bar> = report.sources.iter().map(|s| of(&s.name, s.train.tokens)).collect();
    figures.push(bars("Training tokens by source", "tokens", "tokens", &tokens));
    let density = |s: &SourceReport| Bar {
        label: s.name.clone(),
        value: s.bytes_per_token,
        shown: format!("{:.3}", s.bytes_per_token),
    };
    let density: Vec<Bar> = report.sources.iter().map(density).collect();
    figures.push(bars("Bytes per token", "training side", "density", &density));
    for source in &report.sources {
        let counts = &source.documents;
        let mut all = vec![of("kept", counts.kept)];
        let mut lost: Vec<_> = counts.dropped.iter().chain(&counts.failed).collect();
        lost.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        all.extend(lost.into_iter().map(|(rule, &n)| of(rule, n)));
        let title = format!("What became of {}", source.name);
        figures.push(bars(&title, "documents", &format!("fate-{}", source.name), &all));
    }
    if !report.duplicates.clusters.is_empty() {
        // Doubling sizes, so that one giant does not flatten all others.
        let mut classes: Vec<(u64, u64)> = Vec::new();
        for size in &report.duplicates.clusters {
            let class = 1 << size.documents.ilog2();
            match classes.last_mut() {
                Some((last, n)) if *last == class => *n += size.clusters,
                _ => classes.push((class, size.clusters)),
            }
        }
        let label = |class: u64| {
            if class == 2 { "2 to 3".to_owned() } else { format!("{class} to {}", 2 * class - 1) }
        };
        let all: Vec<Bar> = classes.into_iter().map(|(class, n)| of(&label(class), n)).collect();
        figures.push(bars("Clusters of duplicates by size", "clusters", "clusters", &all));
    }
    figures
}

fn rules(source: &SourceReport) -> String {
    let rows: Vec<Vec<String>> = source
        .rules
        .iter()
        .map(|rule| {
            let kind = if rule.failed { "failed" } else { "dropped" };
            vec![rule.rule.clone(), kind.to_owned(), number(rule.documents)]
        })
        .collect();
    let mut content = table("Documents by rule", &["rule", "what", "documents"], &rows);
    if let Some(lines) = &source.lines {
        let (n, bytes, emptied) = (number(lines.lines), number(lines.bytes), number(lines.emptied));
        content.push_str(&paragraph(&format!(
            "Repeated lines: {n} were taken out, {bytes} bytes; nothing was left of {emptied} documents. For example:"
        )));
        content.push_str(&verbatim(&lines.examples.join("\n")));
    }
    if let Some(fim) = source.fim {
        let (psm, spm) = (number(fim.psm), number(fim.spm));
        content.push_str(&paragraph(&format!("Fill-in-the-middle: {psm} documents as PSM, {spm} as SPM.")));
    }
    let pii = &source.pii;
    if pii.emails + pii.ips + pii.keys > 0 {
        let (emails, ips, keys) = (number(pii.emails), number(pii.ips), number(pii.keys));
        content.push_str(&paragraph(&format!(
            "Replaced: {emails} e-mail addresses, {ips} IPv4 addresses, {keys} keys."
        )));
    }
    for rule in source.rules.iter().filter(|rule| !rule.examples.is_empty()) {
        let examples: String = rule
            .examples
            .iter()
            .map(|example| {
                let line = format!("{}: {}", example.id, example.detail);
                paragraph(&line)
                    + &if example.excerpt.is_empty() { String::new() } else { verbatim(&example.excerpt) }
            })
            .collect();
        content.push_str(&details(
            &format!("{}: {} documents, for example", rule.rule, rule.documents),
            &examples,
        ));
    }
    details(&format!("{}: {}", source.name, source.documents), &content)
}

fn duplicates(report: &CorpusReport) -> String {
    let all = &report.duplicates;
    let mut content = paragraph(&format!(
        "{} exact and {} near duplicates were dropped.",
        number(all.exact),
        number(all.near)
    ));
    if !all.clusters.is_empty() {
        let rows: Vec<Vec<String>> =
            all.clusters.iter().map(|size| vec![number(size.documents), number(size.clusters)]).collect();
        let sizes = table("Clusters by size", &["documents of a cluster", "clusters"], &rows);
        content.push_str(&details("Clusters by size", &sizes));
    }
    for example in &all.examples {
        let kind = if example.near { "nearly" } else { "exactly" };
        let line = format!("{} is {kind} {}", example.dropped, example.kept);
        let texts = verbatim(&example.dropped_excerpt) + &verbatim(&example.kept_excerpt);
        content.push_str(&details(&line, &texts));
    }
    content
}

fn contaminations(report: &CorpusReport) -> String {
    let mut content =
        paragraph(&format!("{} documents held a piece of a benchmark.", number(report.contaminated)));
    if !report.contaminations.is_empty() {
        let rows: Vec<Vec<String>> = report
            .contaminations
            .iter()
            .map(|c| {
                vec![c.id.clone(), format!("{} {}", c.found.benchmark, c.found.item), c.found.text.clone()]
            })
            .collect();
        content.push_str(&table("The matches", &["document", "benchmark", "text of the document"], &rows));
    }
    content
}

/// 1234567 as "1,234,567".
fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
