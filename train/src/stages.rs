//! The stages of a run: what each is set to, and the model that it goes on from.

use std::path::PathBuf;

use percept_model::locate;
use toml::{Table, Value};

use crate::config::{Config, Onward};
use crate::error::{Error, Result};
use crate::settings::{explained, one_length, overlay};

/// One stage of a run, or a run without stages.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its settings, with those of the file that it does not change.
    pub config: Config,
    /// What messages call it; empty for a run without stages.
    pub title: String,
    /// It goes on from the model of the stage before.
    pub goes_on: bool,
}

impl Stage {
    /// An error of this stage's, named after it.
    pub fn wrong(&self, error: Error) -> Error {
        if self.title.is_empty() {
            return error;
        }
        Error::Stage { stage: self.title.clone(), source: Box::new(error) }
    }
}

impl Config {
    /// The runs that this one consists of: itself, or its stages in order. Each stage writes to a folder of
    /// its own inside `out` and goes on with the model of the one before.
    ///
    /// # Errors
    /// When a stage says something that cannot be.
    pub fn runs(&self) -> Result<Vec<Config>> {
        Ok(self.stages()?.into_iter().map(|s| s.config).collect())
    }

    /// As [`Config::runs`], with what else is known of each.
    pub(crate) fn stages(&self) -> Result<Vec<Stage>> {
        if self.stages.is_empty() {
            let mut config = self.clone();
            config.stages = Vec::new();
            if let Some(lora) =
                config.lora.as_ref().filter(|l| l.path.is_none() && l.from != Onward::Continue)
            {
                return Err(Error::Setting(format!(
                    "lora.from is {}, but there is no adapter to go on from: give lora.path, or stages",
                    lora.from.name()
                )));
            }
            config.merge_first().map_err(Error::Setting)?;
            let title = self.name.clone().unwrap_or_default();
            return Ok(vec![Stage { config, title, goes_on: false }]);
        }
        let wrong = |i: usize, why: String| Error::Setting(format!("stage {}: {why}", i + 1));
        let mut base = Table::try_from(self).map_err(|e| wrong(0, e.to_string()))?;
        base.remove("stage");
        base.remove("name");
        let mut stages: Vec<Stage> = Vec::new();
        for (i, own) in self.stages.iter().enumerate() {
            let mut table = base.clone();
            one_length(&mut table, |key| own.contains_key(key));
            overlay(&mut table, own);
            let mut run: Config = table.try_into().map_err(|e| wrong(i, explained(&e)))?;
            if !run.stages.is_empty() {
                return Err(wrong(i, "a stage has no stages of its own".into()));
            }
            let named = run.name.as_ref().map(|n| format!(" ({n})")).unwrap_or_default();
            let of = self.name.as_ref().map(|n| format!("{n}, ")).unwrap_or_default();
            let title = format!("{of}stage {}{named}", i + 1);
            if !own.contains_key("out") {
                run.out = self.out.join(run.name.clone().unwrap_or(format!("stage-{}", i + 1)));
            }
            if let Some(same) = stages.iter().position(|s| s.config.out == run.out) {
                let place = run.out.display();
                return Err(wrong(i, format!("it writes to {place}, as stage {} does", same + 1)));
            }
            let goes_on = match stages.last() {
                Some(before) => run.follow(&before.config, own).map_err(|why| wrong(i, why))?,
                None => false,
            };
            run.merge_first().map_err(|why| wrong(i, why))?;
            run.check().map_err(|why| wrong(i, why))?;
            stages.push(Stage { config: run, title, goes_on });
        }
        Ok(stages)
    }

    /// Go on from the run `before`, unless the stage's `own` table names another model. Whether it does.
    fn follow(&mut self, before: &Config, own: &Table) -> Result<bool, String> {
        let says = |table: &str, key: &str| {
            own.get(table).and_then(Value::as_table).is_some_and(|t| t.contains_key(key))
        };
        // What the file says of adapters to begin with is for the first stage.
        if !says("model", "adapter") {
            self.model.adapter = None;
        }
        if let Some(lora) = self.lora.as_mut().filter(|_| !says("lora", "path")) {
            lora.path = None;
        }
        if says("model", "path") {
            return Ok(false);
        }
        self.model.init = false;
        let made = before.out.join("model");
        if before.lora.is_none() {
            self.model.path = made;
            return Ok(true);
        }
        for (table, key) in [("model", "adapter"), ("lora", "path")] {
            if says(table, key) {
                return Err(format!(
                    "{table}.{key} names an adapter, and the stage before makes one too, which would be lost; give \
                     model.path as well if that is meant"
                ));
            }
        }
        self.model.path = before.base_path();
        match &mut self.lora {
            Some(lora) => lora.path = Some(made),
            None => self.model.adapter = Some(made),
        }
        Ok(true)
    }

    /// An adapter that is to be merged is the model's.
    fn merge_first(&mut self) -> Result<(), String> {
        let Some(lora) = self.lora.as_mut().filter(|l| l.from == Onward::Merge && l.path.is_some()) else {
            return Ok(());
        };
        if self.model.adapter.is_some() {
            return Err(
                "model.adapter and lora.path are both to be merged; merge one with `percept convert`".into(),
            );
        }
        self.model.adapter = lora.path.take();
        Ok(())
    }

    /// The checkpoint that training begins with, and that an adapter belongs to: the model's own, or one that
    /// the run makes in its folder.
    pub(crate) fn base_path(&self) -> PathBuf {
        match (self.model.init, &self.model.adapter) {
            (true, _) => self.out.join("initial"),
            (false, Some(_)) => self.out.join("merged"),
            (false, None) => match locate(&self.model.path) {
                Ok(located) if located.adapters.is_empty() => located.base,
                Ok(_) => self.out.join("merged"),
                // Opening it says what is wrong.
                Err(_) => self.model.path.clone(),
            },
        }
    }
}

impl Onward {
    /// As a file says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Stack => "stack",
            Self::Merge => "merge",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const RUN: &str = "out = 'runs/a'\nsteps = 10\n[model]\npath = 'base'\n[data]\nlength = 64\nrows = 4\n";
    const LORA: &str = "[lora]\nrank = 4\nlayers = ['*_proj']\n";

    fn runs(text: &str) -> Result<Vec<Config>> {
        Config::parse(Path::new("run.toml"), text, &[]).unwrap().runs()
    }

    fn refused(text: &str) -> String {
        runs(text).unwrap_err().to_string()
    }

    fn path(text: &str) -> Option<PathBuf> {
        Some(PathBuf::from(text))
    }

    #[test]
    fn stages_go_on_from_one_another() {
        let text =
            format!("{RUN}[[stage]]\nsteps = 3\n[stage.model]\nfreeze = ['a*']\n[[stage]]\nseed = 2\n");
        let runs = runs(&text).unwrap();
        assert_eq!((runs[0].steps, runs[1].steps, runs[1].seed), (3, 10, 2));
        assert_eq!(runs[0].model.freeze, ["a*"]);
        assert_eq!(runs[1].model.path, PathBuf::from("runs/a/stage-1/model"));
        assert_eq!(runs[0].model.path, PathBuf::from("base"));
        let e = refused(&format!("{RUN}[[stage]]\nstep = 3\n"));
        assert!(e.contains("stage 1") && e.contains("did you mean `steps`?"), "{e}");
    }

    #[test]
    fn adapters_are_continued_stacked_or_merged() {
        let after =
            |from: &str| runs(&format!("{RUN}{LORA}{from}[[stage]]\n[[stage]]\n[[stage]]\n")).unwrap();
        let place = |run: &Config| {
            (run.model.path.clone(), run.model.adapter.clone(), run.lora.clone().unwrap().path)
        };
        for (word, from) in [("continue", Onward::Continue), ("stack", Onward::Stack)] {
            let found = after(&format!("from = '{word}'\n"));
            assert_eq!(place(&found[0]), ("base".into(), None, None));
            assert_eq!(place(&found[1]), ("base".into(), None, path("runs/a/stage-1/model")));
            assert_eq!(place(&found[2]), ("base".into(), None, path("runs/a/stage-2/model")));
            assert_eq!(found[2].lora.as_ref().unwrap().from, from);
        }
        let found = after("from = 'merge'\n");
        assert_eq!(place(&found[0]), ("base".into(), None, None));
        assert_eq!(place(&found[1]), ("base".into(), path("runs/a/stage-1/model"), None));
        assert_eq!(place(&found[2]), ("runs/a/stage-2/merged".into(), path("runs/a/stage-2/model"), None));
        // An adapter that the file begins with is the first stage's alone.
        let found = after("path = 'old'\n");
        assert_eq!(place(&found[0]).2, path("old"));
        assert_eq!(place(&found[1]).2, path("runs/a/stage-1/model"));
        // A stage may turn from adapters to whole parameters; it merges them first.
        let found =
            runs(&format!("{RUN}[[stage]]\n[stage.lora]\nrank = 4\nlayers = ['*']\n[[stage]]\n")).unwrap();
        assert_eq!(
            found[1].lora.is_none().then(|| found[1].model.adapter.clone()),
            Some(path("runs/a/stage-1/model"))
        );
        assert_eq!(found[1].model.path, PathBuf::from("base"));
    }

    #[test]
    fn stages_have_names_and_lengths_of_their_own() {
        let text = format!("name = 'all'\n{RUN}[[stage]]\nname = 'hospital'\nepochs = 2.0\n[[stage]]\n");
        let found = runs(&text).unwrap();
        assert_eq!(found[0].out, PathBuf::from("runs/a/hospital"));
        assert_eq!((found[0].steps, found[0].epochs, found[1].steps), (0, Some(2.0), 10));
        assert_eq!(found[1].model.path, PathBuf::from("runs/a/hospital/model"));
        assert_eq!(found[1].name, None);
        let config = Config::parse(Path::new("run.toml"), &text, &[]).unwrap();
        let titles: Vec<String> = config.stages().unwrap().into_iter().map(|s| s.title).collect();
        assert_eq!(titles, ["all, stage 1 (hospital)", "all, stage 2"]);
    }

    #[test]
    fn what_stages_cannot_mean_is_refused() {
        let two = |second: &str| refused(&format!("{RUN}{LORA}[[stage]]\n[[stage]]\n{second}"));
        let e = two("[stage.lora]\npath = 'other'\n");
        assert!(e.contains("stage 2") && e.contains("lora.path") && e.contains("would be lost"), "{e}");
        let e = refused(&format!("{RUN}[[stage]]\nname = 'a'\n[[stage]]\nname = 'a'\n"));
        assert!(e.contains("runs/a/a, as stage 1"), "{e}");
        let e = refused(&format!("{RUN}{LORA}from = 'stack'\n"));
        assert!(e.contains("no adapter to go on from"), "{e}");
        let e = two("[stage.data]\nrows = 0\n");
        assert!(e.contains("stage 2: data.rows is missing or 0"), "{e}");
        let e = two("[[stage.stage]]\n");
        assert!(e.contains("no stages of its own"), "{e}");
    }
}
