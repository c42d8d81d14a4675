//! The score of a group of tasks.

use super::aggregate::{Score, pooled_stderr};
use super::run::TaskResult;
use crate::Protocol;
use crate::tasks::{Group, Selection};

/// The score of a group of tasks.
#[derive(Clone, Debug)]
pub struct GroupResult {
    /// The group.
    pub group: Group,
    /// Mean over documents, under the first leaderboard over tasks; per metric and filter.
    pub scores: Vec<Score>,
    /// Tasks in it.
    pub tasks: Vec<String>,
    /// Documents in it.
    pub documents: usize,
}

/// The scores of a group, from those of the tasks in it.
pub(super) fn summary(
    group: &Group,
    selection: &Selection,
    tasks: &[TaskResult],
    protocol: Protocol,
) -> GroupResult {
    let mut names = Vec::new();
    leaves(group, selection, &mut names);
    let members: Vec<&TaskResult> = tasks.iter().filter(|t| names.contains(&t.spec.task)).collect();
    let documents: usize = members.iter().map(|t| t.effective).sum();
    let mut scores: Vec<Score> = Vec::new();
    for first in members.first().map(|t| t.scores.as_slice()).unwrap_or_default() {
        let same = |s: &&Score| s.metric == first.metric && s.filter == first.filter;
        let all: Option<Vec<(&Score, usize)>> =
            members.iter().map(|t| Some((t.scores.iter().find(same)?, t.effective))).collect();
        let Some(all) = all else { continue };
        let stderrs: Option<Vec<(f64, usize)>> = all.iter().map(|(s, n)| Some((s.stderr?, *n))).collect();
        let (value, stderr) = match protocol {
            Protocol::Leaderboard => {
                // Every task counts the same, whatever its size.
                let count = all.len() as f64;
                let variance = stderrs.map(|all| all.iter().map(|(e, _)| e * e).sum::<f64>());
                (all.iter().map(|(s, _)| s.value).sum::<f64>() / count, variance.map(|v| v.sqrt() / count))
            }
            Protocol::Current | Protocol::V040 => {
                let sum: f64 = all.iter().map(|(s, n)| s.value * *n as f64).sum();
                (sum / documents as f64, stderrs.and_then(|stderrs| pooled_stderr(&stderrs)))
            }
        };
        scores.push(Score { metric: first.metric, filter: first.filter.clone(), value, stderr });
    }
    GroupResult { group: group.clone(), scores, tasks: names, documents }
}

fn leaves(group: &Group, selection: &Selection, names: &mut Vec<String>) {
    for member in &group.members {
        match selection.groups.iter().find(|g| g.name == *member) {
            Some(inner) => leaves(inner, selection, names),
            None => names.push(member.clone()),
        }
    }
}
