//! Events and effects in one line, for the trace of a schedule.

use super::names::{content, millis};
use super::process::is_ready;
use crate::replication::machine::{Effect, Event, Finding, Looked, Observed};

pub(super) fn brief(event: &Event) -> String {
    let text = match event {
        Event::Orders(orders) => {
            let spec = orders
                .configuration
                .as_ref()
                .map(|c| (c.suspend, &c.selection.rules[0].repositories, &c.selection.rules[0].destinations));
            format!("Orders({:?}, {spec:?}, {:?}, {:?})", orders.generation, orders.registries, orders.request)
        }
        Event::Found(id, Finding::Image(image)) => format!("Found({id}, {})", observed(image)),
        Event::Found(id, Finding::Repositories { names, .. }) => format!("Found({id}, {names:?})"),
        Event::Found(id, Finding::Tags(listed)) => {
            format!("Found({id}, {} {:?} of {})", listed.repository, listed.tags, millis(listed.sent_at))
        }
        Event::Swept(Looked::Seen(image), _) => format!("Swept({})", observed(image)),
        Event::Looked(Looked::Seen(image)) => format!("Looked({})", observed(image)),
        Event::Ended(copy, Some(outcome), _) => match &outcome.result {
            Ok(_) => format!("Ended({copy}, verified, is_unanswered {})", outcome.is_unanswered),
            Err(failed) => format!("Ended({copy}, {:?}, is_unanswered {})", failed.code, outcome.is_unanswered),
        },
        _ => format!("{event:?}"),
    };
    cut(text)
}

fn observed(image: &Observed) -> String {
    format!("{} {} content {} of {}", image.repository, image.tag, content(&image.digest), millis(image.sent_at))
}

pub(super) fn brief_effect(effect: &Effect) -> String {
    let text = match effect {
        Effect::Copy(copy, a) => {
            format!("Copy({copy}, {} {} {} content {})", a.destination.name, a.repository, a.tag, content(&a.digest))
        }
        Effect::Publish(pair, identity, status) => {
            let images = status.images.iter().map(|image| {
                let content = image.digest.parse().ok().map(|digest| content(&digest));
                format!("{} {:?} {content:?}", image.tag, image.status)
            });
            let images: Vec<String> = images.collect();
            let summary = &status.summary;
            let conditions: Vec<_> = status.conditions.iter().map(|it| format!("{} {}", it.type_, it.status)).collect();
            let (name, state, count) = (&identity.name, summary.status, summary.images);
            format!("Publish({pair}, {name}, {state:?} of {count}: {images:?} {conditions:?})")
        }
        Effect::Delete(identity) => format!("Delete({})", identity.name),
        Effect::Record(identity, record) => format!("Record({}, {record:?})", identity.name),
        Effect::Observe(id, looks) => format!("Observe({id}, {})", looks.repository),
        Effect::Report(report) => {
            let totals: Vec<_> = report.destinations.values().map(|totals| totals.counts).collect();
            let problem = report.problem.as_ref().map(|problem| problem.reason);
            let ready = if is_ready(report) { "Ready" } else { "not ready" };
            format!(
                "Report({ready}, {:?}, {:?}, {problem:?}, {:?}, {totals:?})",
                report.generation, report.phase, report.handled_request
            )
        }
        _ => format!("{effect:?}"),
    };
    cut(text)
}

fn cut(mut text: String) -> String {
    text.truncate(text.char_indices().nth(MAX_LINE).map_or(text.len(), |(end, _)| end));
    text
}

const MAX_LINE: usize = 500;
