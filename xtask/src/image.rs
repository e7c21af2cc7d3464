//! `cargo xtask image [NAME...] --out DIR`: builds the project's images as OCI archives, without a registry.
//!
//! An archive is a tar with an OCI layout of one manifest, one configuration and one uncompressed layer. The
//! same inputs give the same bytes: entries are sorted and carry no time and no owner.

mod archive;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use archive::{Config, Layer};

use crate::Usage;

/// One image: its name and what puts it together.
struct Image {
    name: &'static str,
    assemble: fn() -> Result<(Layer, Config)>,
}

/// Every image, alphabetical.
const IMAGES: &[Image] = &[
    Image { name: "hello", assemble: hello },
    Image { name: "pause", assemble: pause },
    Image { name: "toolbox", assemble: toolbox },
];

/// Options that keep a program without a C library free of everything a linker adds by itself.
const BARE: &[&str] = &[
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-Wl,--build-id=none",
    "-Crelocation-model=static",
];

/// The reference under which an image is imported. A tag other than `latest` makes the kubelet use what is
/// there instead of asking a registry.
fn reference(name: &str) -> String {
    format!("localhost/longshore/{name}:dev")
}

/// The `image` task.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut out = PathBuf::from("target/images");
    let mut names = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--out" => {
                let needs = || Usage("--out needs a directory".to_owned());
                out = rest.next().ok_or_else(needs)?.into();
            }
            name if IMAGES.iter().any(|image| image.name == name) => names.push(name),
            other => {
                let names: Vec<&str> = IMAGES.iter().map(|image| image.name).collect();
                let names = names.join(", ");
                bail!(Usage(format!("no image is named {other:?}; there are {names}")));
            }
        }
    }
    std::fs::create_dir_all(&out).with_context(|| format!("create {}", out.display()))?;
    for image in IMAGES.iter().filter(|image| names.is_empty() || names.contains(&image.name)) {
        let (layer, config) =
            (image.assemble)().with_context(|| format!("image {}", image.name))?;
        let path = out.join(format!("{}.tar", image.name));
        archive::write(&path, &reference(image.name), &layer, &config)
            .with_context(|| format!("write {}", path.display()))?;
        println!(
            "{} {} ({} KB)",
            path.display(),
            reference(image.name),
            std::fs::metadata(&path)?.len().div_ceil(1024)
        );
    }
    Ok(())
}

fn hello() -> Result<(Layer, Config)> {
    let mut layer = Layer::default();
    layer.file(
        "hello",
        &program("longshore-image-hello", &static_target()?, &["-Ctarget-feature=+crt-static"])?,
        0o755,
    );
    Ok((layer, Config { entrypoint: &["/hello"], user: "65532:65532", ..Config::default() }))
}

fn pause() -> Result<(Layer, Config)> {
    let mut layer = Layer::default();
    layer.file("pause", &program("longshore-image-pause", &host_target()?, BARE)?, 0o755);
    Ok((layer, Config { entrypoint: &["/pause"], user: "65535:65535", ..Config::default() }))
}

fn toolbox() -> Result<(Layer, Config)> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
        .context("busybox is missing: install the package busybox-static")?;
    let mut layer = Layer::default();
    layer.file("bin/busybox", &std::fs::read(busybox)?, 0o755);
    let list = Command::new(busybox).arg("--list").output().context("run busybox --list")?;
    for applet in String::from_utf8(list.stdout)?.lines().filter(|applet| *applet != "busybox") {
        layer.link(&format!("bin/{applet}"), "busybox");
    }
    let server =
        program("longshore-image-toolbox", &static_target()?, &["-Ctarget-feature=+crt-static"])?;
    layer.file("bin/toolbox", &server, 0o755);
    for folder in ["etc", "root", "tmp", "usr/bin", "var"] {
        layer.folder(folder, if folder == "tmp" { 0o1777 } else { 0o755 });
    }
    layer.file(
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        0o644,
    );
    layer.file("etc/group", b"root:x:0:\nnobody:x:65534:\n", 0o644);
    layer.link("usr/bin/env", "../../bin/busybox");
    Ok((
        layer,
        Config { entrypoint: &[], command: &["/bin/toolbox", "serve"], ..Config::default() },
    ))
}

/// Builds a program of this workspace with the `image` profile and returns its bytes.
fn program(package: &str, target: &str, options: &[&str]) -> Result<Vec<u8>> {
    let status = Command::new(env!("CARGO"))
        .args([
            "rustc",
            "--quiet",
            "--profile",
            "image",
            "--package",
            package,
            "--target",
            target,
            "--",
        ])
        .args(options)
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "cargo could not build {package}");
    let path = target_directory()?.join(target).join("image").join(package);
    std::fs::read(&path).with_context(|| format!("read {}", path.display()))
}

/// Where cargo puts what it builds.
pub fn target_directory() -> Result<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps"])
        .output()?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    Ok(metadata["target_directory"]
        .as_str()
        .context("cargo metadata has no target_directory")?
        .into())
}

fn host_target() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("run rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host =
        text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}

/// The target for static programs: musl where its library is installed or can be, else the host's, which is
/// linked statically against the C library of the distribution.
fn static_target() -> Result<String> {
    let host = host_target()?;
    let musl = host.replace("-gnu", "-musl");
    let installed =
        Command::new("rustc").args(["--print", "target-libdir", "--target", &musl]).output()?;
    let present = Path::new(String::from_utf8(installed.stdout)?.trim()).exists();
    if present
        || Command::new("rustup")
            .args(["target", "add", &musl])
            .output()
            .is_ok_and(|o| o.status.success())
    {
        return Ok(musl);
    }
    Ok(host)
}
