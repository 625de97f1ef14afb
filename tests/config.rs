//! A configuration that cannot work is refused whole, in sentences that name key and file and never a secret.

use std::fs;

use tempfile::TempDir;
use twinlog::config::{Config, Environment, HttpConfig, LinkConfig, Naming, Retention, Start};

const CLUSTERS: &str = r#"
[clusters.paris]
bootstrap = "paris-1:9092"
[clusters.lyon]
bootstrap = "lyon-1:9092"
"#;

const LINK: &str = r#"
[links.dr]
source = "paris"
target = "lyon"
topics = ["orders"]
"#;

/// Loads `text` as `twinlog.toml`; an error's sentences come back with the directory cut off.
fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    load_as("twinlog.toml", text, variables)
}

fn load_as(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join(name);
    fs::write(&file, text).unwrap();
    fs::write(directory.path().join("empty"), "\n").unwrap();
    fs::write(directory.path().join("password"), "from the file\r\n").unwrap();
    let environment: Environment = variables.iter().copied().collect();
    let prefix = format!("{}/", directory.path().display());
    Config::load(&file, &environment)
        .map_err(|error| error.to_string().replace(&prefix, "").lines().map(str::to_owned).collect())
}

/// The sentences for a link with `lines` added.
fn link_problems(lines: &str) -> Vec<String> {
    load(&format!("{CLUSTERS}{LINK}{lines}"), &[]).unwrap_err()
}

fn link(lines: &str) -> LinkConfig {
    load(&format!("{CLUSTERS}{LINK}{lines}"), &[]).unwrap().links.remove(&"dr".into()).unwrap()
}

/// The sentences for `security = { … }` at a cluster, given these variables.
fn security_problems(security: &str, variables: &[(&str, &str)]) -> Vec<String> {
    load(&format!("{CLUSTERS}security = {security}\n{LINK}"), variables).unwrap_err()
}

#[test]
fn an_unknown_key_is_named_with_its_section_and_file() {
    assert_eq!(
        link_problems("topic = 1"),
        ["twinlog.toml: links.dr.topic: unknown key; known here: source, target, topics, exclude_topics, groups, \
          exclude_groups, cut_lag_max, consistency, no_position, group_deletions, start, naming, plane, replication_factor, retention, exclude_configs, rate_limit, priorities, retention_overtook, \
          deletion_grace, intervals"]
    );
    let unknown = |text: &str| load(&format!("{text}{CLUSTERS}{LINK}"), &[]).unwrap_err();
    assert_eq!(
        unknown("htp.listen = 1\n"),
        ["twinlog.toml: htp: unknown key; known here: clusters, http, memory, log, links"]
    );
    assert_eq!(
        unknown("http.port = 1\n"),
        ["twinlog.toml: http.port: unknown key; known here: listen, token, partition_metrics"]
    );
    assert_eq!(
        link_problems("intervals = { flushes = '1s' }"),
        ["twinlog.toml: links.dr.intervals.flushes: unknown key; known here: topics, groups, flush, bounds"]
    );
    assert_eq!(
        link_problems("naming = { prefix = 'a.', suffix = 'b' }"),
        ["twinlog.toml: links.dr.naming.suffix: unknown key; known here: prefix, rename"]
    );
}

#[test]
fn a_stray_variable_is_named_as_it_was_set() {
    let text = format!("{CLUSTERS}{LINK}");
    assert_eq!(
        load(&text, &[("TWINLOG__LINKS__DR__TOPIC", "x")]).unwrap_err()[0].split(';').next(),
        Some("TWINLOG__LINKS__DR__TOPIC: links.dr.topic: unknown key")
    );
    assert_eq!(load(&text, &[("TWINLOG__LINKS__DR__RATE_LIMIT", "fast")]).unwrap_err().len(), 1);
    assert!(load(&text, &[("TWINLOG_CONFIG", "x"), ("TWINLOGS__A", "x"), ("PATH", "x")]).is_ok());
}

#[test]
fn a_wrong_type_is_named_without_its_value() {
    for (line, sentence) in [
        ("groups = 7", "links.dr.groups: expected a list of texts, found a number"),
        ("groups = [7]", "links.dr.groups: expected text in quotes, found a number"),
        ("exclude_topics = { a = 1 }", "links.dr.exclude_topics: expected a list of texts, found a table"),
        ("plane = true", "links.dr.plane: expected text in quotes, found true or false"),
        ("plane = 'fast'", "links.dr.plane: expected one of \"auto\", \"batches\", \"records\""),
        ("replication_factor = 'three'", "links.dr.replication_factor: expected a whole number, found text"),
        ("replication_factor = 0", "links.dr.replication_factor: 0 is not within 1..=32767"),
        ("intervals = 5", "links.dr.intervals: expected a table of keys, found a number"),
        (
            "intervals = { flush = 5 }",
            "links.dr.intervals.flush: expected a duration with its unit, such as \"500ms\", \"2s\" or \"7d\": \
             expected text in quotes, found a number",
        ),
        ("intervals = { flush = '1h' }", "links.dr.intervals.flush: 1h is not within 100ms to 5s"),
        ("intervals = { bounds = '1ms' }", "links.dr.intervals.bounds: 1ms is not within 100ms to 5s"),
        (
            "rate_limit = true",
            "links.dr.rate_limit: expected a size with its unit, such as \"16MiB\", found true or false",
        ),
        ("rate_limit = 0", "links.dr.rate_limit: must be at least 1.0 KiB"),
        ("priorities = 10", "links.dr.priorities: expected a table of keys, found a number"),
        ("priorities = { orders = 'high' }", "links.dr.priorities.orders: expected a whole number, found text"),
        ("priorities = { orders = 0 }", "links.dr.priorities.orders: 0 is not within 1..=1000"),
        ("retention = 'forever'", "links.dr.retention: expected \"same\" or { at_least = \"7d\" }, found text"),
        ("retention = {}", "links.dr.retention.at_least: is required"),
        ("retention_overtook = 'skip'", "links.dr.retention_overtook: expected one of \"halt\", \"continue\""),
        (
            "start = 'yesterday'",
            "links.dr.start: expected \"earliest\", \"latest\", a time such as \"2026-11-21T08:00:00Z\", or \
             milliseconds since 1970",
        ),
        (
            "start = 1763712000",
            "links.dr.start: 1763712000 looks like seconds: expected \"earliest\", \"latest\", a time such as \
             \"2026-11-21T08:00:00Z\", or milliseconds since 1970",
        ),
    ] {
        assert_eq!(link_problems(line), [format!("twinlog.toml: {sentence}")], "{line}");
    }
    let problems = |text: &str| load(&format!("{text}\n{CLUSTERS}{LINK}"), &[]).unwrap_err();
    for (line, sentence) in [
        ("memory.budget = '1MiB'", "memory.budget: must be at least 2.0 MiB"),
        ("http.listen = 'localhost'", "http.listen: expected an IP address and a port, such as \"127.0.0.1:9644\""),
        ("http.partition_metrics = 1", "http.partition_metrics: expected true or false, found a number"),
        ("log.format = 'xml'", "log.format: expected one of \"text\", \"json\""),
        (
            "log.level = 'inof'",
            "log.level: expected a level, such as \"info\" or \"info,twinlog::wire=debug\": \"inof\" is not one of off, \
             error, warn, info, debug, trace",
        ),
        ("log = 'info'", "log: expected a table of keys, found text"),
    ] {
        assert_eq!(problems(line), [format!("twinlog.toml: {sentence}")], "{line}");
    }
}

#[test]
fn a_link_needs_two_clusters_that_exist() {
    let problems = |source, target| {
        load(&format!("{CLUSTERS}[links.dr]\nsource = {source:?}\ntarget = {target:?}\ntopics = ['a']"), &[])
            .unwrap_err()
    };
    assert_eq!(
        problems("rome", "lyon"),
        ["twinlog.toml: links.dr.source: no cluster is called \"rome\"; [clusters] has: lyon, paris"]
    );
    assert_eq!(
        problems("paris", "Lyon"),
        ["twinlog.toml: links.dr.target: no cluster is called \"Lyon\"; [clusters] has: lyon, paris"]
    );
    assert_eq!(
        problems("paris", "paris"),
        ["twinlog.toml: links.dr.target: is the source: a link needs two different clusters"]
    );
}

#[test]
fn everything_required_is_asked_for_at_once() {
    assert_eq!(
        load("[clusters.paris]\n[links.dr]\n", &[]).unwrap_err(),
        [
            "twinlog.toml: clusters.paris.bootstrap: is required",
            "twinlog.toml: links.dr.source: is required",
            "twinlog.toml: links.dr.target: is required",
            "twinlog.toml: links.dr.topics: is required",
        ]
    );
    assert_eq!(
        load(CLUSTERS, &[]).unwrap_err(),
        ["twinlog.toml: links: at least one link is required: [links.<name>] with source, target and topics"]
    );
}

#[test]
fn a_pattern_that_is_no_regular_expression_is_named_with_its_key() {
    assert_eq!(
        link_problems("groups = ['ok', 'team-(a']"),
        ["twinlog.toml: links.dr.groups: \"team-(a\" is not a regular expression: unclosed group"]
    );
    assert_eq!(
        link_problems("exclude_topics = ['*']"),
        [
            "twinlog.toml: links.dr.exclude_topics: \"*\" is not a regular expression: repetition operator missing expression"
        ]
    );
    let huge = link_problems("exclude_groups = ['((a{100}){100}){100}']");
    assert!(huge[0].contains("is not a regular expression: Compiled regex exceeds size limit"), "{huge:?}");
    assert_eq!(
        load(&format!("{CLUSTERS}{}", LINK.replace("\"orders\"", "")), &[]).unwrap_err(),
        ["twinlog.toml: links.dr.topics: names no topic; [\".*\"] is every topic"]
    );
}

#[test]
fn a_pattern_cannot_break_out_of_its_anchors() {
    assert_eq!(link_problems("groups = ['a)|(?:b']").len(), 1);
}

#[test]
fn sasl_is_complete_or_refused() {
    assert_eq!(
        security_problems("{ protocol = 'sasl_ssl' }", &[]),
        [
            "twinlog.toml: clusters.lyon.security.mechanism: is required with protocol sasl_ssl",
            "twinlog.toml: clusters.lyon.security.username: is required with protocol sasl_ssl",
            "twinlog.toml: clusters.lyon.security.password: is required with protocol sasl_ssl",
        ]
    );
    assert_eq!(
        security_problems("{ username = 'twinlog', password = { file = 'password' } }", &[]),
        [
            "twinlog.toml: clusters.lyon.security.username: has no effect with protocol plaintext: choose protocol \"sasl_ssl\" \
         or \"sasl_plaintext\"",
            "twinlog.toml: clusters.lyon.security.password: has no effect with protocol plaintext: choose protocol \"sasl_ssl\" \
         or \"sasl_plaintext\"",
        ]
    );
    assert_eq!(
        security_problems("{ ca = 'password' }", &[]),
        [
            "twinlog.toml: clusters.lyon.security.ca: has no effect with protocol plaintext: choose \"ssl\" or \"sasl_ssl\""
        ]
    );
    assert_eq!(
        security_problems("{ protocol = 'ssl', ca = 'absent.pem' }", &[]),
        ["twinlog.toml: clusters.lyon.security.ca: cannot read absent.pem: No such file or directory (os error 2)"]
    );
    assert_eq!(
        security_problems("{ protocol = 'ssl', certificate = 'password' }", &[]),
        [
            "twinlog.toml: clusters.lyon.security.key: is required with certificate: a certificate and its key go together"
        ]
    );
    assert_eq!(
        security_problems("{ protocol = 'ssl', key = 'absent.pem' }", &[]),
        [
            "twinlog.toml: clusters.lyon.security.key: cannot read absent.pem: No such file or directory (os error 2)",
            "twinlog.toml: clusters.lyon.security.certificate: is required with key: a certificate and its key go together"
        ]
    );
    assert_eq!(
        security_problems("{ certificate = 'password', key = 'password' }", &[]),
        [
            "twinlog.toml: clusters.lyon.security.certificate: has no effect with protocol plaintext: choose \"ssl\" or \
         \"sasl_ssl\"",
            "twinlog.toml: clusters.lyon.security.key: has no effect with protocol plaintext: choose \"ssl\" or \"sasl_ssl\"",
        ]
    );
    assert_eq!(
        security_problems("{ protocol = 'kerberos', username = 'x' }", &[]),
        ["twinlog.toml: clusters.lyon.security.protocol: expected one of \"plaintext\", \"ssl\", \"sasl_plaintext\", \
         \"sasl_ssl\""]
    );
    let gssapi = "{ protocol = 'sasl_ssl', mechanism = 'GSSAPI', username = 'x', password = { file = 'password' } }";
    assert_eq!(
        security_problems(gssapi, &[]),
        [
            "twinlog.toml: clusters.lyon.security.mechanism: expected one of \"plain\", \"scram-sha-256\", \"scram-sha-512\", \
         \"oauthbearer\""
        ]
    );
}

/// The sentences for a SASL section with this token.
fn token_problems(token: &str) -> String {
    let security = format!("{{ protocol = 'sasl_ssl', mechanism = 'oauthbearer', token = {token} }}");
    security_problems(&security, &[]).join("\n")
}

#[test]
fn tokens_come_from_one_place_and_take_the_place_of_a_password() {
    let key = "twinlog.toml: clusters.lyon.security.token";
    let how = "write { file = \"path\" }, { command = [\"program\", \"argument\"] } or { endpoint = \"https://…\", client_id = \
               \"…\", client_secret = { … } }";
    let client = "client_id = 'twinlog', client_secret = { file = 'password' }";
    let hint = "expected a URL such as \"https://login.example.com/oauth2/token\"";
    for (token, sentence) in [
        ("{ }".to_owned(), format!("{key}: {how}")),
        ("{ file = 'password', command = ['x'] }".to_owned(), format!("{key}: {how}")),
        ("'eyJh'".to_owned(), format!("{key}: expected a table of keys, found text\n{key}: {how}")),
        (
            "{ file = 'absent' }".to_owned(),
            format!("{key}.file: cannot read absent: No such file or directory (os error 2)"),
        ),
        ("{ command = [] }".to_owned(), format!("{key}.command: names no program")),
        ("{ file = 'password', scope = 'x' }".to_owned(), format!("{key}.scope: unknown key; known here: file")),
        (
            "{ endpoint = 'https://idp/token' }".to_owned(),
            format!("{key}.client_id: is required\n{key}.client_secret: is required"),
        ),
        (
            format!("{{ endpoint = 'http://idp/token', {client} }}"),
            format!("{key}.endpoint: sends the client's secret in the clear: use https"),
        ),
        (format!("{{ endpoint = 'ftp://idp/token', {client} }}"), format!("{key}.endpoint: {hint}")),
        (
            format!("{{ endpoint = 'https://me:hush@idp/token', {client} }}"),
            format!("{key}.endpoint: {hint}: name and secret do not belong into it: see client_id and client_secret"),
        ),
    ] {
        assert_eq!(token_problems(&token), sentence, "{token}");
    }
    let both =
        "{ protocol = 'sasl_ssl', mechanism = 'oauthbearer', username = 'twinlog', password = { file = 'password' } }";
    assert_eq!(
        security_problems(both, &[]),
        [
            "twinlog.toml: clusters.lyon.security.token: is required with mechanism oauthbearer",
            "twinlog.toml: clusters.lyon.security.username: has no effect with mechanism oauthbearer: choose mechanism \
             \"plain\" or one of SCRAM",
            "twinlog.toml: clusters.lyon.security.password: has no effect with mechanism oauthbearer: choose mechanism \
             \"plain\" or one of SCRAM",
        ]
    );
    let unused = "{ protocol = 'sasl_ssl', mechanism = 'plain', username = 'twinlog', password = { file = 'password' }, \
                  token = { command = ['x'] } }";
    assert_eq!(
        security_problems(unused, &[]),
        ["twinlog.toml: clusters.lyon.security.token: has no effect with protocol sasl_ssl: choose mechanism \
             \"oauthbearer\""]
    );
}

/// A SASL section with this password.
fn with_password(password: &str) -> String {
    format!("{{ protocol = 'sasl_ssl', mechanism = 'plain', username = 'twinlog', password = {password} }}")
}

#[test]
fn a_secret_comes_by_reference_and_is_never_shown() {
    let problem = |password: &str| security_problems(&with_password(password), &[("EMPTY", "")]).join("\n");
    let how = "write { env = \"NAME\" } to take it from that environment variable, or { file = \"path\" } to take it from \
               that file";
    let key = "twinlog.toml: clusters.lyon.security.password";
    for (password, sentence) in [
        ("'hunter2'", format!("{key}: a secret does not stand in the file: {how}")),
        ("20061", format!("{key}: a secret does not stand in the file: {how}")),
        ("['hunter2']", format!("{key}: a secret does not stand in the file: {how}")),
        ("{ env = 'A', file = 'b' }", format!("{key}: {how}")),
        ("{ value = 'hunter2' }", format!("{key}: {how}")),
        (
            "{ env = 'A', value = 'hunter2' }",
            format!(
                "{key}.value: unknown key; known here: env, file\n{key}: environment variable A is not set (or not UTF-8)"
            ),
        ),
        ("{ env = 'ABSENT' }", format!("{key}: environment variable ABSENT is not set (or not UTF-8)")),
        ("{ env = 'EMPTY' }", format!("{key}: environment variable EMPTY is empty")),
        ("{ file = 'absent' }", format!("{key}: cannot read absent: No such file or directory (os error 2)")),
        ("{ file = 'empty' }", format!("{key}: file empty is empty")),
    ] {
        assert_eq!(problem(password), sentence, "{password}");
    }
}

#[test]
fn secrets_keep_every_character() {
    let password = |password: &str, variables: &[(&str, &str)]| {
        let text = format!("{CLUSTERS}security = {}\n{LINK}", with_password(password));
        let config = load(&text, variables).unwrap();
        let secret = config.clusters["lyon"].security.password.as_ref().unwrap().read().unwrap();
        assert!(!format!("{config:?}").contains(secret.reveal()), "Debug shows the secret");
        secret.reveal().to_owned()
    };
    for secret in ["0123", "1e5", "TRUE", " a b ", "päss", "{ env = 'X' }", "a__b"] {
        assert_eq!(password("{ env = 'SECRET' }", &[("SECRET", secret)]), secret);
        // The override itself may be the secret.
        let overridden = [("TWINLOG__CLUSTERS__LYON__SECURITY__PASSWORD", secret)];
        assert_eq!(password("{ env = 'ABSENT' }", &overridden), secret);
    }
}

#[test]
fn a_secret_in_a_file_is_read_again_and_one_in_a_variable_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (file, config) = (directory.path().join("password"), directory.path().join("twinlog.toml"));
    let written = |secret: &str| fs::write(&file, secret).unwrap();
    written("first\r\n");
    fs::write(&config, format!("{CLUSTERS}security = {}\n{LINK}", with_password("{ file = 'password' }"))).unwrap();
    let config = Config::load(&config, &Environment::default()).unwrap();
    let password = config.clusters["lyon"].security.password.clone().unwrap();
    assert_eq!(password.read().unwrap().reveal(), "first");
    written("second");
    assert_eq!(password.read().unwrap().reveal(), "second");
    written("");
    let empty = password.read().unwrap_err();
    assert!(empty.contains("password") && empty.contains("is empty"), "{empty}");
}

#[test]
fn a_file_that_is_no_configuration_says_so_without_quoting_it() {
    let toml = load(&format!("{CLUSTERS}[http]\ntoken = 'hunter2\n"), &[]).unwrap_err().join("\n");
    assert!(toml.starts_with("twinlog.toml: TOML parse error at line 7, column"), "{toml}");
    assert!(!toml.contains("hunter2"), "{toml}");
    let twice = load_as("twinlog.yaml", "http:\n  token: hunter2\n  token: hunter3\n", &[]).unwrap_err().join("\n");
    assert!(twice.starts_with("twinlog.yaml: ") && twice.contains("token") && !twice.contains("hunter"), "{twice}");
    let scalar = load_as("twinlog.yml", "hunter2", &[]).unwrap_err().join("\n");
    assert_eq!(scalar, "twinlog.yml: expected tables of keys and values, found something else");
    let odd = load_as("twinlog.yml", "{ { password: hunter2 }: 1 }", &[]).unwrap_err().join("\n");
    assert_eq!(odd, "twinlog.yml: expected tables of keys and values, found something else");
    assert_eq!(
        load_as("twinlog.conf", "", &[]).unwrap_err(),
        ["twinlog.conf: a configuration is called *.toml, *.yaml or *.yml"]
    );
    let absent = Config::load("no/such.toml".as_ref(), &Environment::default()).unwrap_err().to_string();
    assert_eq!(absent, "no/such.toml: cannot read the configuration: No such file or directory (os error 2)");
}

#[test]
fn an_empty_yaml_key_is_not_a_default() {
    let text =
        "clusters: {a: {bootstrap: 'a:1'}, b: {bootstrap: 'b:1'}}\nlinks: {dr: {source: a, target: b, topics: }}";
    assert_eq!(
        load_as("twinlog.yaml", text, &[]).unwrap_err(),
        ["twinlog.yaml: links.dr.topics: expected a list of texts, found nothing (leave the key out for its default)"]
    );
}

#[test]
fn a_bootstrap_address_is_host_and_port() {
    let problems = |bootstrap: &str| {
        load(&format!("{}{LINK}", CLUSTERS.replace("paris-1:9092", bootstrap)), &[]).unwrap_err().join("\n")
    };
    for bad in ["paris-1", "paris-1:", ":9092", "paris-1:99999", "kafka://paris-1:9092", "::1:9092", "a:1,"] {
        let problem = problems(bad);
        assert!(problem.starts_with("twinlog.toml: clusters.paris.bootstrap: "), "{bad}: {problem}");
        assert!(problem.ends_with("is not host:port"), "{bad}: {problem}");
    }
    for good in ["[::1]:9092", "a:1, b:2", "10.0.0.1:9092"] {
        assert!(load(&format!("{}{LINK}", CLUSTERS.replace("paris-1:9092", good)), &[]).is_ok(), "{good}");
    }
}

#[test]
fn names_can_be_reached_by_variables_and_used_in_topic_names() {
    for bad in ["DR", "a__b", "\"a.b\"", "-a", "\"é\"", "\"\""] {
        let problems = load(&format!("{CLUSTERS}{}", LINK.replace("dr", bad)), &[]).unwrap_err().join("\n");
        assert!(problems.contains("a name here has 1 to 64 characters"), "{bad}: {problems}");
    }
}

#[test]
fn variables_override_the_file() {
    let config = load(
        &format!("{CLUSTERS}{LINK}start = 'latest'"),
        &[
            ("TWINLOG__LINKS__DR__START", "1763712000000"),
            ("TWINLOG__LINKS__DR__TOPICS", "orders|payments{1,2}"),
            ("TWINLOG__LINKS__DR__REPLICATION_FACTOR", "3"),
            ("TWINLOG__LINKS__DR__RATE_LIMIT", "50MiB"),
            ("TWINLOG__LINKS__DR__INTERVALS__FLUSH", "500ms"),
            ("TWINLOG__LINKS__DR__NAMING__PREFIX", "paris."),
            ("TWINLOG__HTTP__PARTITION_METRICS", "true"),
            ("TWINLOG__CLUSTERS__PARIS__BOOTSTRAP", "a:1,b:2"),
        ],
    )
    .unwrap();
    let link = &config.links[&"dr".into()];
    assert_eq!(link.start, Start::Time(1_763_712_000_000));
    assert_eq!(link.topics, ["orders|payments{1,2}"]);
    assert_eq!(link.replication_factor, Some(3));
    assert_eq!(link.rate_limit_bytes, Some(50 << 20));
    assert_eq!(link.intervals.flush.as_millis(), 500);
    assert_eq!(link.naming, Naming::Prefix("paris.".into()));
    assert!(config.http.partition_metrics);
    assert_eq!(config.clusters["paris"].bootstrap, "a:1,b:2");
}

#[test]
fn start_naming_and_retention_take_each_of_their_forms() {
    assert_eq!(link("start = 'latest'").start, Start::Latest);
    assert_eq!(link("start = '2026-11-21T08:00:00Z'").start, Start::Time(1_795_248_000_000));
    assert_eq!(link("start = 2026-11-21T08:00:00Z").start, Start::Time(1_795_248_000_000));
    assert_eq!(link("start = 1795248000000").start, Start::Time(1_795_248_000_000));
    assert_eq!(
        link("retention = { at_least = '7d' }").retention,
        Retention::AtLeast(std::time::Duration::from_secs(604_800))
    );
    let Naming::Rename(names) = link("naming = { rename = { 'Orders.v1' = 'a', 'b' = 'Orders.v1' } }").naming else {
        panic!("a rename table")
    };
    assert_eq!(names[&"Orders.v1".into()], "a".into());
    assert_eq!(names[&"b".into()], "Orders.v1".into());
}

#[test]
fn a_rename_table_gives_every_target_one_source() {
    assert_eq!(
        link_problems("naming = { rename = { a = 'x', b = 'x' } }"),
        ["twinlog.toml: links.dr.naming: \"a\" and \"b\" would both be written to \"x\": a target has one source"]
    );
    assert_eq!(
        link_problems("naming = { rename = { a = 'x y' } }"),
        ["twinlog.toml: links.dr.naming: \"x y\" is not a topic name"]
    );
    assert_eq!(
        link_problems("naming = { prefix = 'a/' }"),
        [
            "twinlog.toml: links.dr.naming: prefix \"a/\" cannot begin a topic name: letters, digits, '.', '_' and '-' can"
        ]
    );
}

#[test]
fn the_daemon_is_found_without_the_clusters_secrets() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("twinlog.toml");
    let security = with_password("{ env = 'ABSENT' }");
    fs::write(&file, format!("http.listen = '127.0.0.1:1'\n{CLUSTERS}security = {security}\n{LINK}")).unwrap();
    assert!(Config::load(&file, &Environment::default()).is_err());
    assert_eq!(HttpConfig::load(&file, &Environment::default()).unwrap().listen.port(), 1);
}
