//! `percept completions` and `percept man`: what a shell and `man` know of the commands.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::failure::write_file;
use super::{Arguments, Failure};

#[derive(Args)]
pub struct Completions {
    /// bash, zsh, fish, powershell or elvish
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "percept", &mut script);
        print!("{}", String::from_utf8_lossy(&script));
        Ok(())
    }
}

#[derive(Args)]
pub struct Man {
    /// The folder to write to, made if it is not there; man reads it when it is a `man1` on its path
    #[arg(value_name = "DIR")]
    out: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Man {
    pub fn run(self) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.out)
            .map_err(|source| Failure::File { path: self.out.clone(), source })?;
        let mut root = Arguments::command().disable_help_subcommand(true);
        root.build();
        let mut files = Vec::new();
        self.page(&root, "percept", &mut files)?;
        if self.json {
            println!("{}", serde_json::json!({ "files": files }));
        } else {
            println!("{} pages written to {}", files.len(), self.out.display());
        }
        Ok(())
    }

    /// The page of a command and those of its subcommands.
    fn page(&self, command: &clap::Command, name: &str, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
        let mut text = Vec::new();
        let path = self.out.join(format!("{name}.1"));
        clap_mangen::Man::new(command.clone())
            .title(name)
            .render(&mut text)
            .map_err(|source| Failure::File { path: path.clone(), source })?;
        write_file(&path, &text)?;
        files.push(path);
        for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            self.page(sub, &format!("{name}-{}", sub.get_name()), files)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "percept", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in Arguments::command().get_subcommands().filter(|c| !c.is_hide_set()) {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }

    #[test]
    fn every_command_has_a_page_with_its_options() {
        let folder = tempfile::tempdir().unwrap();
        Man { out: folder.path().to_path_buf(), json: true }.run().unwrap();
        let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(page("percept-generate.1").contains("max\\-tokens"), "{}", page("percept-generate.1"));
        assert!(page("percept-data-pull.1").contains("SOURCE"));
        assert!(page("percept.1").contains("transcribe"));
    }
}
