//! A line chart as inline SVG: axes at round numbers, a legend, colours from the page's style sheet.

use super::markup::escape;
use super::number::tick;

/// Colours that the style sheet has; series beyond them begin again.
pub(super) const COLOURS: usize = 6;

// The drawing's own units; the page scales it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// Lines with more points than this are drawn faint, with their running mean over them.
const SMOOTH_FROM: usize = 60;
/// Lines with more points than this are thinned: a chart is a few hundred pixels wide.
const THIN_FROM: usize = 1_000;

/// One chart.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) unit: String,
    /// Whether long lines get a running mean. A schedule must not: its corners are the point.
    pub(super) smooth: bool,
    pub(super) series: Vec<Series>,
}

/// One line of a chart. Points are (step, value) in order of steps; values that are not finite break it.
pub(super) struct Series {
    pub(super) label: String,
    pub(super) colour: usize,
    pub(super) points: Vec<(f64, f64)>,
}

/// The chart as a `figure`. `id` must be unique in the page.
pub(super) fn figure(chart: &Chart, id: &str) -> String {
    let finite = || chart.series.iter().flat_map(|s| &s.points).filter(|p| p.1.is_finite());
    let title = escape(&chart.title);
    if finite().next().is_none() {
        return format!("<figure><figcaption>{title}</figcaption><p>no finite values</p></figure>\n");
    }
    let x = Axis::over(finite().map(|p| p.0), LEFT, WIDTH - RIGHT, 0.0, 6);
    let y = Axis::over(finite().map(|p| p.1), HEIGHT - BOTTOM, TOP, 0.04, 7);
    let smoothed = chart.smooth && chart.series.iter().any(|s| s.points.len() > SMOOTH_FROM);

    let note = if smoothed { ", running mean over the raw values" } else { "" };
    let unit = if chart.unit.is_empty() { String::new() } else { format!(" ({})", escape(&chart.unit)) };
    let mut out = format!("<figure>\n<figcaption>{title}<small>{unit}{note}</small></figcaption>\n");
    out.push_str(&format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}\"><title id=\"{id}\">{title}: {}</title>\n",
        escape(&describe(chart))
    ));
    grid(&mut out, &x, &y);
    for series in &chart.series {
        lines(&mut out, series, chart.smooth, &x, &y);
    }
    out.push_str("</svg>\n<ul class=\"legend\">");
    for series in &chart.series {
        let class = series.colour % COLOURS;
        out.push_str(&format!(
            "<li><svg viewBox=\"0 0 30 8\" aria-hidden=\"true\"><line class=\"s{class}\" x1=\"0\" y1=\"4\" x2=\"30\" y2=\"4\"/></svg>{}</li>",
            escape(&series.label)
        ));
    }
    out.push_str("</ul>\n</figure>\n");
    out
}

/// What a chart shows, for those who hear the page.
fn describe(chart: &Chart) -> String {
    let one = |s: &Series| {
        let mut finite = s.points.iter().filter(|p| p.1.is_finite());
        let first = finite.next()?;
        let last = finite.next_back().unwrap_or(first);
        let short = super::number::short;
        Some(format!(
            "{} from {} at step {} to {} at step {}",
            s.label,
            short(first.1),
            first.0,
            short(last.1),
            last.0
        ))
    };
    chart.series.iter().filter_map(one).collect::<Vec<_>>().join("; ")
}

/// A range of values laid onto a range of the drawing.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    distance: f64,
}

impl Axis {
    /// `margin` is what is left free at both ends, as a part of the range; `ticks` about how many.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64, margin: f64, ticks: usize) -> Self {
        let (mut low, mut high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        // A flat line needs a range too, wide enough to be a range in floating point.
        if high - low <= low.abs().max(high.abs()) * 1e-9 {
            let half = if low == 0.0 { 1.0 } else { low.abs() / 10.0 };
            (low, high) = (low - half, high + half);
        }
        let free = (high - low) * margin;
        (low, high) = (low - free, high + free);
        Self { low, high, from, to, distance: round_distance((high - low) / ticks as f64) }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let first = (self.low / self.distance - 1e-9).ceil();
        (0..20)
            .map(move |i| (first + f64::from(i)) * self.distance)
            .take_while(|t| *t <= self.high * (1.0 + 1e-12))
    }
}

/// The least of 1, 2 and 5 times a power of ten that is not below `distance`.
fn round_distance(distance: f64) -> f64 {
    let power = 10_f64.powf(distance.log10().floor());
    let times = [1.0, 2.0, 5.0].into_iter().find(|t| t * power >= distance * (1.0 - 1e-9));
    times.unwrap_or(10.0) * power
}

fn grid(out: &mut String, x: &Axis, y: &Axis) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for value in y.ticks() {
        let at = y.at(value);
        out.push_str(&format!(
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/><text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            LEFT - 8.0,
            at + 4.0,
            tick(value, y.distance)
        ));
    }
    // Steps are whole: no ticks between them.
    for value in x.ticks().filter(|v| v.fract() == 0.0) {
        let at = x.at(value);
        out.push_str(&format!(
            "<line class=\"axis\" x1=\"{at:.1}\" y1=\"{bottom}\" x2=\"{at:.1}\" y2=\"{:.1}\"/><text class=\"mid\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>\n",
            bottom + 5.0,
            bottom + 19.0,
            tick(value, x.distance.max(1.0))
        ));
    }
    out.push_str(&format!(
        "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/><text class=\"mid\" x=\"{:.1}\" y=\"{:.1}\">step</text>\n",
        f64::midpoint(LEFT, right),
        HEIGHT - 4.0
    ));
}

fn lines(out: &mut String, series: &Series, smooth: bool, x: &Axis, y: &Axis) {
    let class = series.colour % COLOURS;
    let points = &series.points;
    if points.len() > SMOOTH_FROM && !smooth {
        out.push_str(&path(&thinned(points), &format!("s{class}"), x, y));
        return;
    }
    if points.len() > SMOOTH_FROM {
        out.push_str(&path(&thinned(points), &format!("s{class} raw"), x, y));
        out.push_str(&path(&thinned(&running_mean(points, points.len() / 30)), &format!("s{class}"), x, y));
        return;
    }
    out.push_str(&path(points, &format!("s{class}"), x, y));
    for (step, value) in points.iter().filter(|p| p.1.is_finite()) {
        out.push_str(&format!(
            "<circle class=\"d{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"/>\n",
            x.at(*step),
            y.at(*value)
        ));
    }
}

fn path(points: &[(f64, f64)], class: &str, x: &Axis, y: &Axis) -> String {
    let mut drawing = String::new();
    let mut pen_down = false;
    for (step, value) in points {
        if value.is_finite() {
            let command = if pen_down { 'L' } else { 'M' };
            drawing.push_str(&format!("{command}{:.1} {:.1}", x.at(*step), y.at(*value)));
        }
        pen_down = value.is_finite();
    }
    format!("<path class=\"{class}\" d=\"{drawing}\"/>\n")
}

/// The mean of the finite values around each point, `half` to each side.
fn running_mean(points: &[(f64, f64)], half: usize) -> Vec<(f64, f64)> {
    let mean = |i: usize| {
        // As wide on the left as on the right, so that the ends do not lean.
        let half = half.min(i).min(points.len() - 1 - i);
        let near = points[i - half..=i + half].iter().map(|p| p.1).filter(|v| v.is_finite());
        let (sum, count) = near.fold((0.0, 0.0), |(s, n), v| (s + v, n + 1.0));
        sum / count
    };
    points.iter().enumerate().map(|(i, p)| (p.0, if p.1.is_finite() { mean(i) } else { f64::NAN })).collect()
}

/// At most about [`THIN_FROM`] points: of each stretch the least and the greatest, so that spikes stay.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= THIN_FROM {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(THIN_FROM / 2);
    let mut kept = Vec::with_capacity(THIN_FROM + 2);
    for piece in points.chunks(stretch) {
        let order = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let ends = (piece.iter().min_by(order), piece.iter().max_by(order));
        if let (Some(a), Some(b)) = ends {
            let (first, second) = if a.0 <= b.0 { (a, b) } else { (b, a) };
            kept.push(*first);
            if first.0 < second.0 {
                kept.push(*second);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        for (low, high) in
            [(0.0, 1.0), (1.9, 5.7), (-3.0, 4.0), (0.0, 2e-4), (1e6, 9e6), (2.0, 2.0), (0.0, 0.0)]
        {
            let axis = Axis::over([low, high].into_iter(), 0.0, 100.0, 0.0, 5);
            let ticks: Vec<_> = axis.ticks().collect();
            assert!((2..=7).contains(&ticks.len()), "{low}..{high}: {ticks:?}");
            for t in ticks {
                let times = t / axis.distance;
                assert!((times - times.round()).abs() < 1e-6);
                assert!((-1e-6..=100.0 + 1e-6).contains(&axis.at(t)), "{low}..{high}: {t}");
            }
        }
    }

    #[test]
    fn thinning_keeps_spikes_and_smoothing_keeps_lines() {
        let mut points: Vec<_> = (0..10_000).map(|i| (f64::from(i), 1.0)).collect();
        points[5_432].1 = 9.0;
        let thin = thinned(&points);
        assert!(thin.len() <= THIN_FROM + 2 && thin.contains(&(5_432.0, 9.0)));
        let line: Vec<_> = (0..100).map(|i| (f64::from(i), 2.0 * f64::from(i) + 1.0)).collect();
        for (mean, point) in running_mean(&line, 7).iter().zip(&line) {
            assert!((mean.1 - point.1).abs() < 1e-9, "a straight line stays itself");
        }
    }
}
