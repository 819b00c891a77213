//! `make scale`: measures the operator at size, and prints each figure as a line of a table.

#![allow(missing_docs, clippy::unwrap_used, reason = "a program for developers, on the ground of the tests")]

#[path = "../tests/it/scale/mod.rs"]
mod scale;
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::str::FromStr;

use clap::Parser;

use scale::{ConfigurationCourse, ImageCourse, configurations, images};

#[derive(Parser)]
struct ScaleFlags {
    /// `images:REPOSITORIESxTAGSxDESTINATIONS` or `configurations:NUMBERxREGISTRIES`, as often as wanted.
    sizes: Vec<Size>,
    /// `cargo bench` says this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy)]
enum Size {
    Images(ImageCourse),
    Configurations(ConfigurationCourse),
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size, such as images:1000x100x1 or configurations:10000x1");
        let (kind, numbers) = text.split_once(':').ok_or_else(wrong)?;
        let numbers: Vec<usize> =
            numbers.split('x').map_while(|number| number.parse().ok().filter(|number| *number > 0)).collect();
        match (kind, numbers.as_slice()) {
            ("images", &[repositories, tags, destinations]) => {
                Ok(Self::Images(ImageCourse { repositories, tags, destinations }))
            }
            ("configurations", &[configurations, registries]) => {
                Ok(Self::Configurations(ConfigurationCourse { configurations, registries }))
            }
            _ => Err(wrong()),
        }
    }
}

#[tokio::main]
async fn main() {
    for size in ScaleFlags::parse().sizes {
        match size {
            Size::Images(course) => {
                let ImageCourse { repositories, tags, destinations } = course;
                println!("\n| {repositories} repositories × {tags} tags × {destinations} destinations | |\n|---|---|");
                images(course).await;
            }
            Size::Configurations(course) => {
                let ConfigurationCourse { configurations: number, registries } = course;
                println!("\n| {number} configurations, {registries} Registries | |\n|---|---|");
                configurations(course).await;
            }
        }
    }
}
