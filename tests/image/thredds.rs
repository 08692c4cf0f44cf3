//! images/thredds: around a war, and on an image with the structure of the official one. Neither the
//! real war nor a registry with the real image is to be had where the tests run: the war is a small one
//! that uses the content root as TDS does, the image is made around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nslab::image::Store;

use crate::recipes::{self, at_most, twice};
use crate::recipes_lab::Lab;
use crate::served::{Cli, Registry, refused};
use crate::{open_dir, require_root, tool};

const SERVLET: &str = include_str!("War.java");

const WEB_XML: &str = r#"<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0">
<servlet><servlet-name>war</servlet-name><servlet-class>War</servlet-class>
<load-on-startup>1</load-on-startup></servlet>
<servlet-mapping><servlet-name>war</servlet-name><url-pattern>/picture</url-pattern>
<url-pattern>/about</url-pattern><url-pattern>/fileServer/*</url-pattern>
<url-pattern>/catalog/catalog.html</url-pattern><url-pattern>/index</url-pattern></servlet-mapping>
<servlet><servlet-name>page</servlet-name><jsp-file>/page.jsp</jsp-file></servlet>
<servlet-mapping><servlet-name>page</servlet-name><url-pattern>/page</url-pattern></servlet-mapping>
<welcome-file-list><welcome-file>index</welcome-file></welcome-file-list></web-app>"#;

const JSP: &str = "<%@ page contentType=\"text/html\" %><p>jsp ${1 + 1}</p>\n";

/// Compiles and packs the war, as a recipe: with the JDK among the packages.
const SCRIPT: &str = r#"
. "$NSLAB_LIB/root/root.sh"
. "$NSLAB_LIB/tomcat/tomcat.sh"
unpack
find_jdk
tomcat_jars servlet-api
compile "$NSLAB_RECIPE/War.java"
mkdir -p "$work/war/WEB-INF"
cp -r "$work/classes" "$NSLAB_RECIPE/web.xml" "$work/war/WEB-INF/"
cp "$NSLAB_RECIPE/page.jsp" "$work/war/"
pack_jar "$work/war" "$root/thredds.war"
mkdir "$root/thredds"
cp -r "$work/war/." "$root/thredds/"
settle
"#;

/// Of the official image, what nslab's layer has to do with: names, order, the user.
const ENTRYPOINT: &str = r#"#!/bin/sh
set -e
if [ "$1" = 'catalina.sh' ]; then
  chown -R tomcat:tomcat /usr/local/tomcat
  chmod 400 /usr/local/tomcat/conf/*
  exec busybox su -s /bin/sh -c 'exec "$0" "$@"' tomcat "$@"
fi
exec "$@"
"#;
const CATALINA: &str = r#"#!/bin/sh
export CATALINA_HOME=/usr/local/tomcat
. $CATALINA_HOME/bin/setenv.sh
exec /opt/jre/bin/java $JAVA_OPTS $CATALINA_OPTS -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  -Dcatalina.home=$CATALINA_HOME -Dcatalina.base=$CATALINA_HOME -Djava.io.tmpdir=/tmp \
  -cp "$(ls $CATALINA_HOME/lib/*.jar | tr '\n' :)" org.apache.catalina.startup.Bootstrap start
"#;
const SETENV: &str = r#"#!/bin/sh
[ -n "$TDS_CONTENT_ROOT_PATH" ] || exit 1
JAVA_OPTS="$JAVA_OPTS -Dtds.content.root.path=$TDS_CONTENT_ROOT_PATH/ -Xms${THREDDS_XMS_SIZE} -Xmx${THREDDS_XMX_SIZE}"
export JAVA_OPTS
"#;
const SERVER_XML: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<Server port="-1" shutdown="SHUTDOWN">
  <Service name="Catalina">
    <Connector server="Apache" secure="true" port="8080" protocol="HTTP/1.1"
               connectionTimeout="20000"
               relaxedPathChars='[]|' />
    <Engine name="Catalina" defaultHost="localhost">
      <Host name="localhost" appBase="webapps" unpackWARs="true" autoDeploy="true"/>
    </Engine>
  </Service>
</Server>
"#;
const OLD_CATALOG: &str = "<catalog><dataset name=\"of the official image\"/></catalog>";

/// The folder with thredds.war and, as a folder, thredds.
fn war(dir: &Path) -> PathBuf {
    let folder = dir.join("war");
    fs::create_dir(&folder).expect("mkdir");
    let toml = "format = 1\nname = \"war\"\nscript = \"s\"\nlib = [\"root\", \"tomcat\"]\n\
                epoch = 1704067200\npackages = [\"openjdk-17-jdk-headless\", \
                \"openjdk-17-jre-headless\", \"libtomcat10-java\"]\nconfig.cmd = [\"x\"]\n";
    for (name, content) in [
        ("image.toml", toml),
        ("s", SCRIPT),
        ("War.java", SERVLET),
        ("web.xml", WEB_XML),
        ("page.jsp", JSP),
    ] {
        fs::write(folder.join(name), content).expect("write");
    }
    let store = recipes::store(&dir.join("war-store"));
    let image = store
        .build(&folder, false, &mut |_| {})
        .expect("build the war");
    // What others build with it must be able to read it.
    let to = dir.join("thredds");
    tool(Command::new("cp").arg("-rL").arg(&image.layers[0]).arg(&to));
    to
}

/// An image with the official one's structure in the registry, made around Java and Tomcat of the
/// war's image.
fn official(registry: &Registry, dir: &Path, layout: &Path, war: &Path) -> String {
    let root = dir.join("official");
    let home = root.join("usr/local/tomcat");
    for (path, content, mode) in [
        ("entrypoint.sh", ENTRYPOINT, 0o755),
        ("usr/local/tomcat/bin/catalina.sh", CATALINA, 0o755),
        ("usr/local/tomcat/bin/setenv.sh", SETENV, 0o755),
        ("usr/local/tomcat/conf/server.xml", SERVER_XML, 0o644),
        (
            "usr/local/tomcat/content/thredds/catalog.xml",
            OLD_CATALOG,
            0o644,
        ),
        ("usr/local/tomcat/webapps/.wh.thredds.war", "", 0o644),
        (
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\ntomcat:x:1000:1000::/:/bin/sh\n",
            0o644,
        ),
        ("etc/group", "root:x:0:\ntomcat:x:1000:\n", 0o644),
    ] {
        use std::os::unix::fs::PermissionsExt;
        let file = root.join(path);
        fs::create_dir_all(file.parent().expect("a folder")).expect("mkdir");
        fs::write(&file, content).expect("write");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("mode");
    }
    let exploded = home.join("webapps/thredds");
    tool(
        Command::new("cp")
            .arg("-r")
            .arg(war.join("thredds"))
            .arg(exploded),
    );
    let tar = dir.join("official.tar");
    tool(
        Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&tar)
            .arg("."),
    );
    let at = format!("{}:latest", layout.display());
    tool(
        Command::new("umoci")
            .args(["raw", "add-layer", "--image", &at])
            .arg(&tar),
    );
    let config = [
        "--clear",
        "config.cmd",
        "--clear",
        "config.env",
        "--config.entrypoint",
        "/entrypoint.sh",
        "--config.cmd",
        "catalina.sh",
        "--config.cmd",
        "run",
        "--config.workingdir",
        "/usr/local/tomcat",
        "--config.env",
        "PATH=/usr/local/tomcat/bin:/usr/local/bin:/usr/bin:/bin",
        "--config.env",
        "THREDDS_XMX_SIZE=4G",
        "--config.env",
        "THREDDS_XMS_SIZE=4G",
        "--config.env",
        "TDS_CONTENT_ROOT_PATH=/usr/local/tomcat/content",
    ];
    tool(
        Command::new("umoci")
            .args(["config", "--image", &at])
            .args(config),
    );
    registry.copy(&format!("oci:{at}"), "unidata/thredds-docker:5.6", &[]);
    registry.name("unidata/thredds-docker:5.6")
}

/// Brings labs/thredds.toml up and looks at what the realservers answer; `user` is whom they run as.
fn serves(store: &Path, environment: &[(&'static str, String)], user: &str) {
    let lab = Lab::up("thredds", store, environment);
    let curl = |url: &str| {
        let said = lab.nslab(&["exec", "client", "curl", "-sS", "-L", "-i", "-m", "60", url]);
        said.replace('\r', "")
    };
    let answers: Vec<_> = (0..2).map(|_| curl("http://VIP:8080/thredds")).collect();
    let mut servers = Vec::new();
    for said in &answers {
        let of = |word: &str| {
            said.lines()
                .filter(|l| l.starts_with(word))
                .collect::<Vec<_>>()
        };
        let codes = ["HTTP/1.1 302 ", "HTTP/1.1 302 ", "HTTP/1.1 200 "];
        assert_eq!(of("HTTP/1.1 "), codes, "{said}");
        let to = [
            "Location: /thredds/",
            "Location: /thredds/catalog/catalog.html",
        ];
        assert_eq!(of("Location: "), to, "{said}");
        let server = of("Server: ");
        assert_eq!(server, [server[0]; 3], "{said}");
        assert_eq!(
            of("dataset "),
            ["dataset nslab test grid: test/nslab.nc"],
            "{said}"
        );
        servers.push(server[0]);
    }
    servers.sort_unstable();
    assert_eq!(servers, ["Server: server1", "Server: server2"]);

    let about = curl("http://VIP:8080/thredds/about");
    let of = |word: &str| {
        let line = about.lines().find_map(|l| l.strip_prefix(word));
        line.unwrap_or_else(|| panic!("no {word} in {about}"))
            .trim()
            .to_owned()
    };
    let heap: u32 = of("heap").parse().expect("a number");
    assert!((900..=1024).contains(&heap), "{heap} MiB");
    assert_eq!((of("cache"), of("log")), ("16 Mb".into(), "started".into()));
    assert_eq!(of("user"), user);
    assert!(curl("http://VIP:8080/thredds/page").ends_with("<p>jsp 2</p>\n"));

    // The dataset, judged by NetCDF's own tool.
    let dir = open_dir();
    let get = |path: &str| {
        let url = format!("http://VIP:8080/thredds/{path}");
        let words = ["exec", "client", "curl", "-sS", "-f", "-m", "60", &url];
        lab.command(&words).output().expect("curl").stdout
    };
    let file = dir.path().join("nslab.nc");
    fs::write(&file, get("fileServer/test/nslab.nc")).expect("write");
    let header = tool(Command::new("ncdump").arg("-s").arg(&file));
    for line in [
        ":_Format = \"classic\" ;",
        "short temperature(time, lat, lon) ;",
        "temperature:scale_factor = 0.1f ;",
        "lat = -60, -30, 0, 30, 60 ;",
        "  190, 191, 192, 193, 194, 195, 196, 197, 198 ;",
    ] {
        assert!(header.contains(line), "no {line} in {header}");
    }
    assert_eq!(get("picture")[..3], [0xff, 0xd8, 0xff], "no JPEG");
    let logs = lab.command(&["logs", "server1"]).output().expect("logs");
    let logs = String::from_utf8_lossy(&[logs.stdout, logs.stderr].concat()).into_owned();
    let bad = |l: &&str| l.contains(" SEVERE ") || l.starts_with("Exception");
    assert_eq!(logs.lines().find(bad), None, "{logs}");
    let proof = lab.nslab(&["proof"]);
    assert!(
        proof.contains("\nPROVEN (declared: method dr)\n"),
        "{proof}"
    );
    lab.nslab(&["down"]);
}

#[test]
fn thredds_around_a_war_and_on_an_image_like_the_official_one() {
    require_root();
    let dir = open_dir();
    let war = war(dir.path());
    let file = war.join("thredds.war");
    let built = twice("thredds", &[("THREDDS_WAR", &file)]);
    at_most(&built, 170_000_000);
    let store = built.dir.path().join("root");
    let given = ("THREDDS_WAR", file.display().to_string());
    serves(&store, &[given], "root");

    let registry = Registry::plain();
    let image = official(
        &registry,
        dir.path(),
        &built.dir.path().join("layout-0"),
        &war,
    );
    let store = dir.path().join("store");
    let environment = [("THREDDS_IMAGE", image), ("THREDDS_WAR", String::new())];
    serves(&store, &environment, "tomcat");
    let list = Store::open(&store).expect("open").list().expect("list");
    let sizes = list
        .iter()
        .map(|i| (i.kind.as_str(), i.unpacked))
        .collect::<Vec<_>>();
    let [("registry", below), ("recipe", whole)] = sizes[..] else {
        panic!("{sizes:?}");
    };
    assert!(
        whole - below < 100_000,
        "nslab's own layer is small: {sizes:?}"
    );
}

/// Both ways are named where none of them is open.
#[test]
fn without_a_registry_and_without_a_war_both_are_asked_for() {
    let cli = Cli::new();
    let build = |image: &str, war: &str| {
        let mut command = cli.command(&["image", "build", "thredds"]);
        command.env("THREDDS_IMAGE", image).env("THREDDS_WAR", war);
        refused(&command.output().expect("run"))
    };
    let said = build("127.0.0.1:1/thredds:5.6", "");
    assert!(
        said.starts_with(
            "error: image `thredds` is made from 127.0.0.1:1/thredds:5.6, which could not be had: "
        ),
        "{said}"
    );
    assert!(
        said.trim_end().ends_with(
            "; name another image in THREDDS_IMAGE, or name a file in THREDDS_WAR to build without it"
        ),
        "{said}"
    );
    let said = build("", "/nonexistent/thredds.war");
    assert_eq!(
        said,
        "error: recipe (built in) thredds/image.toml: THREDDS_WAR: /nonexistent/thredds.war is no file\n"
    );
}
