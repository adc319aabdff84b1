//! The program as it is started from a shell.

use std::process::Command;

/// A machine without a display has no folder for its socket, which is nobody's fault and nothing to be told of.
#[test]
fn devices_are_listed_without_a_word_about_absent_displays() {
    for session in [None, Some("not/absolute"), Some("/nonexistent")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
        command.args(["devices", "--json"]).env_remove("XDG_RUNTIME_DIR").env_remove("NODEVICE_SELECT");
        if let Some(folder) = session {
            command.env("XDG_RUNTIME_DIR", folder);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "XDG_RUNTIME_DIR is {session:?}");
        let devices: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(devices.as_array().unwrap().iter().any(|device| device["id"] == "cpu"), "{devices}");
    }
}
