//! Tells which files of a tool's directory are the user's secrets, or may hold some.
//!
//! Used by `home_tools`. Names decide; for a tool's own settings, words in the text decide. A file
//! with the name of a source file is not secret: many packages have a `credentials.py`.

/// Files with credentials or a record of what the user did, in any directory.
const NAMES: [&str; 26] = [
    ".dockercfg",
    ".env",
    ".git-credentials",
    ".gitconfig",
    ".htpasswd",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    ".s3cfg",
    ".vault-token",
    ".yarnrc",
    ".yarnrc.yml",
    "_netrc",
    "auth.json",
    "auth.toml",
    "condarc",
    ".condarc",
    "hosts.yml",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
    "npmrc",
    "pip.conf",
    "settings-security.xml",
];
/// Directories that hold secrets.
const DIRECTORIES: [&str; 9] = [
    ".aws",
    ".azure",
    ".docker",
    ".gcloud",
    ".gnupg",
    ".kube",
    ".password-store",
    ".ssh",
    "x509stores",
];
/// Extensions of private keys.
const KEYS: [&str; 6] = ["jks", "key", "keystore", "p12", "pfx", "ppk"];
/// Names at the top of a tool's directory, hidden even before they exist: a login during a build
/// creates them.
pub(super) const AHEAD: [&str; 8] = [
    ".git-credentials",
    ".netrc",
    ".npmrc",
    ".pypirc",
    "auth.json",
    "credentials",
    "credentials.json",
    "credentials.toml",
];
/// Extensions of source files and of files compiled from them.
const CODE: [&str; 26] = [
    "c", "cc", "class", "cpp", "cs", "d", "go", "h", "html", "java", "js", "jsx", "kt", "lua",
    "map", "md", "mjs", "php", "py", "pyc", "pyi", "rb", "rs", "rst", "sh", "ts",
];
/// Extensions of settings.
const SETTINGS: [&str; 10] =
    ["cfg", "conf", "config", "ini", "json", "properties", "toml", "xml", "yaml", "yml"];
/// Words that settings with secrets contain.
const WORDS: [&str; 9] = [
    "_auth",
    "api_key",
    "apikey",
    "bearer",
    "credential",
    "passw",
    "private_key",
    "secret",
    "token",
];
/// How deep a tool's own settings lie in its directory.
const SETTINGS_DEPTH: usize = 3;

/// Whether to hide a directory.
pub(super) fn is_secret_directory(name: &str) -> bool {
    DIRECTORIES.contains(&name)
}

/// Whether to hide a file, by its name and its directory's.
pub(super) fn is_secret(name: &str, above: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let ending = lower.rsplit_once('.').map_or("", |(_, ending)| ending);
    let is_code = CODE.contains(&ending);
    let is_history =
        !is_code && lower.contains("history") && (lower.starts_with('.') || ending.is_empty());
    let is_credentials = !is_code && lower.trim_start_matches('.').starts_with("credential");
    let is_of_git = lower == "config" && (above == ".git" || above.ends_with(".git"));
    let is_environment = lower.starts_with(".env.") && !is_code;
    NAMES.contains(&&*lower)
        || KEYS.contains(&ending)
        || is_environment
        || is_history
        || is_credentials
        || is_of_git
}

/// Whether a file may be a tool's own settings, so that its text must be checked.
pub(super) fn may_be_settings(name: &str, depth: usize) -> bool {
    let lower = name.to_ascii_lowercase();
    let ending = lower.rsplit_once('.').map_or("", |(_, ending)| ending);
    depth <= SETTINGS_DEPTH
        && (SETTINGS.contains(&ending) || lower == "config" || lower.ends_with("rc"))
}

/// Whether settings contain something that could be a secret.
pub(super) fn has_secrets(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    let in_address = |line: &str| {
        line.split("://").skip(1).any(|rest| {
            let host = rest.split(|c: char| c == '/' || c == '"' || c.is_whitespace());
            host.take(1).any(|host| host.contains('@'))
        })
    };
    text.lines().any(|line| WORDS.iter().any(|word| line.contains(word)) || in_address(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_by_their_names() {
        for (name, above, is) in [
            ("credentials", ".cargo", true),
            ("credentials.toml", ".cargo", true),
            ("credentials.toml.bak", ".cargo", true),
            (".credentials.json", "x", true),
            ("credentials.py", "botocore", false),
            ("credentials.d.ts", "x", false),
            (".npmrc", "etc", true),
            ("npmrc", "npm", true),
            ("config", ".git", true),
            ("config", "0123abcd.git", true),
            ("config", "etc", false),
            (".node_repl_history", "x", true),
            (".python_history", "x", true),
            ("history", ".sdkman", true),
            ("history.go", "x", false),
            ("id_ed25519", "x", true),
            ("dev.pfx", "x", true),
            (".env.local", "x", true),
            ("rustc", "bin", false),
        ] {
            assert_eq!(is_secret(name, above), is, "{above}/{name}");
        }
        assert!(is_secret_directory(".ssh") && !is_secret_directory("ssh"));
    }

    #[test]
    fn settings_are_told_by_what_is_in_them() {
        assert!(may_be_settings("config.toml", 1) && may_be_settings(".toolrc", 2));
        assert!(!may_be_settings("package.json", 5) && !may_be_settings("rustc", 1));
        assert!(has_secrets(b"[registries.x]\ntoken = \"abc\"\n"));
        assert!(has_secrets(b"[\"https://a/b\", \"git+https://me:pw@host/x\"]"));
        assert!(has_secrets(b"index = \"https://me:pw@host/index\"\n"));
        assert!(!has_secrets(b"[build]\njobs = 4\n# https://doc.rust-lang.org/@\n"));
    }
}
