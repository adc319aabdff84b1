//! `percept devices`.

use clap::Args;

use crate::cli::Failure;
use crate::cli::table::table;

#[derive(Args)]
pub struct Devices {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Devices {
    pub fn run(self) -> Result<(), Failure> {
        let devices = percept::registry().list();
        if self.json {
            println!("{}", serde_json::json!(devices));
            return Ok(());
        }
        let mut t = table(&["ID", "NAME", "VENDOR", "DRIVER", "KIND", "FEATURES"], &[]);
        for d in devices {
            let kind = if d.software { "software" } else { "hardware" };
            t.add_row([d.id, d.name, d.vendor, d.driver, kind.to_string(), d.features.join(" ")]);
        }
        println!("{t}");
        Ok(())
    }
}
