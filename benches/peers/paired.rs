//! Compares tools inside each repetition: a machine is never as fast as it was a minute ago.

use std::collections::BTreeMap;

use crate::run::Run;
use crate::tools::Tool;

/// The times of one tool divided by those of another, repetition by repetition, in order.
pub struct Ratios(Vec<f64>);

impl Ratios {
    /// Of the repetitions in which both did their work; `None` without any.
    pub fn of(runs: &BTreeMap<Tool, Vec<&Run>>, tool: Tool, other: Tool) -> Option<Self> {
        let wall = |tool: Tool, repetition: usize| {
            runs.get(&tool)?.iter().find(|run| run.repetition == repetition).and_then(|run| run.wall())
        };
        let pairs = runs.get(&tool)?.iter().filter_map(|run| Some(run.wall()? / wall(other, run.repetition)?));
        let mut ratios: Vec<f64> = pairs.collect();
        ratios.sort_by(f64::total_cmp);
        (!ratios.is_empty()).then_some(Self(ratios))
    }

    /// Counts the repetitions.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn median(&self) -> f64 {
        self.at(0.5)
    }

    pub fn least(&self) -> f64 {
        self.at(0.0)
    }

    pub fn most(&self) -> f64 {
        self.at(1.0)
    }

    /// A quarter of the repetitions went at least as well.
    pub fn lower_quartile(&self) -> f64 {
        self.at(0.25)
    }

    fn at(&self, share: f64) -> f64 {
        quantile(&self.0, share).unwrap_or(f64::NAN)
    }

    /// For a table.
    pub fn shown(&self) -> String {
        match self.count() {
            1 => format!("{:.2}", self.median()),
            _ => format!("{:.2} ({:.2}–{:.2})", self.median(), self.least(), self.most()),
        }
    }
}

/// Returns the median of the seconds that runs took which ended well.
pub fn median_wall(runs: &[&Run]) -> Option<f64> {
    median(runs.iter().filter_map(|run| run.wall()))
}

/// Returns the middle one, or the mean of the middle two; `None` of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// Of values in order; between two of them in proportion.
fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let at = share * values.len().checked_sub(1)? as f64;
    let (below, above) = (values.get(at.floor() as usize)?, values.get(at.ceil() as usize)?);
    Some(below + (above - below) * at.fract())
}

/// Returns the tool of another that transship compares worst with, and how: of all peers, the one with the largest
/// median.
pub fn best_peer(runs: &BTreeMap<Tool, Vec<&Run>>) -> Option<(Tool, Ratios)> {
    let peers = runs.keys().copied().filter(|tool| tool.is_peer());
    let ratios = peers.filter_map(|peer| Some((peer, Ratios::of(runs, Tool::Transship, peer)?)));
    ratios.max_by(|(_, a), (_, b)| a.median().total_cmp(&b.median()))
}
