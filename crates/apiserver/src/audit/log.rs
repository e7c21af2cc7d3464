//! The audit log in files: the present one, and older ones that are kept for a while.
//!
//! upstream: staging/src/k8s.io/apiserver/plugin/pkg/audit/log/backend.go,
//! gopkg.in/natefinch/lumberjack.v2 for the names and ages of older files

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use longshore_base::Clock;
use parking_lot::Mutex;

use super::backend::Output;
use super::event::Event;

/// The form of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// One line for people.
    Legacy,
}

/// How long and how many older files are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes of a file; a longer one becomes an older one.
    pub bytes_max: u64,
    /// How long older ones are kept; `None` for ever.
    pub age_max: Option<Duration>,
    /// How many of them are kept; `None` for all.
    pub files_max: Option<usize>,
    /// Whether older ones are packed.
    pub compress: bool,
}

/// Where lines go.
enum Place {
    Standard,
    File { path: PathBuf, file: File, bytes: u64, rotation: Option<Rotation> },
}

/// The audit log.
pub struct Log {
    place: Arc<Mutex<Place>>,
    /// Held by whoever looks after the older files.
    tidying: Arc<Mutex<()>>,
    format: Format,
    clock: Arc<dyn Clock>,
}

impl Log {
    /// A log on the standard output.
    pub fn standard(format: Format, clock: Arc<dyn Clock>) -> Self {
        let place = Arc::new(Mutex::new(Place::Standard));
        Self { place, tidying: Arc::default(), format, clock }
    }

    /// A log in a file, which is made when it is not there.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn file(
        path: &Path,
        format: Format,
        rotation: Option<Rotation>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let file = open(path)?;
        let bytes = file.metadata()?.len();
        let place = Place::File { path: path.to_owned(), file, bytes, rotation };
        let place = Arc::new(Mutex::new(place));
        Ok(Self { place, tidying: Arc::default(), format, clock })
    }
}

impl Output for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn write(&self, events: Vec<Event>) -> BoxFuture<'static, Result<(), String>> {
        let (place, tidying) = (self.place.clone(), self.tidying.clone());
        let (format, now) = (self.format, self.clock.now());
        Box::pin(async move {
            let write = move || {
                let mut text = String::new();
                for event in &events {
                    text.push_str(&match format {
                        Format::Json => event.json(),
                        Format::Legacy => event.legacy(),
                    });
                    text.push('\n');
                }
                let grown = place.lock().append(&text, now)?;
                // Others write on meanwhile: packing takes its time.
                if let Some((path, rotation)) = grown {
                    let _alone = tidying.lock();
                    if let Err(error) = tidy(&path, &rotation, now) {
                        tracing::warn!(%error, "older audit logs cannot be looked after");
                    }
                }
                Ok::<_, io::Error>(())
            };
            let written = tokio::task::spawn_blocking(write).await;
            written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        })
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Place {
    /// Writes lines. Tells when there is one more of the older files.
    fn append(&mut self, text: &str, now: Timestamp) -> io::Result<Option<(PathBuf, Rotation)>> {
        let Self::File { path, file, bytes, rotation } = self else {
            return io::stdout().lock().write_all(text.as_bytes()).map(|()| None);
        };
        let mut grown = None;
        let more = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if let Some(rotation) = rotation
            && *bytes > 0
            && bytes.saturating_add(more) > rotation.bytes_max
        {
            let older = older_name(path, now);
            match fs::rename(&path, &older) {
                // Somebody else has taken it away, or it was renamed before and there was no new one.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => renamed?,
            }
            *file = open(path)?;
            *bytes = 0;
            grown = Some((path.clone(), *rotation));
        }
        file.write_all(text.as_bytes())?;
        *bytes += more;
        Ok(grown)
    }
}

/// The parts of a file's name before and behind the time of an older one.
fn name_parts(path: &Path) -> (String, String) {
    let text =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map_or(String::new(), |e| format!(".{}", e.to_string_lossy()));
    (format!("{}-", text(path.file_stem())), extension)
}

const TIME: &str = "%Y-%m-%dT%H-%M-%S";

fn older_name(path: &Path, now: Timestamp) -> PathBuf {
    let (start, end) = name_parts(path);
    let milliseconds = now.subsec_millisecond();
    let time = format!("{}.{milliseconds:03}", now.strftime(TIME));
    path.with_file_name(format!("{start}{time}{end}"))
}

/// The older files with their times, newest first.
fn older(path: &Path) -> io::Result<Vec<(Timestamp, PathBuf)>> {
    let (start, end) = name_parts(path);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut found = Vec::new();
    for entry in fs::read_dir(parent.unwrap_or(Path::new(".")))? {
        let entry = entry?.path();
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bare = name.strip_suffix(".gz").unwrap_or(&name);
        let time = bare.strip_prefix(&start).and_then(|rest| rest.strip_suffix(&end));
        let parsed = time.and_then(|time| {
            let (seconds, milliseconds) = time.split_once('.')?;
            let seconds = jiff::civil::DateTime::strptime(TIME, seconds).ok()?;
            let at = seconds.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
            at.checked_add(Duration::from_millis(milliseconds.parse().ok()?)).ok()
        });
        found.extend(parsed.map(|time| (time, entry)));
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Removes what is too old or too much, and packs the others.
fn tidy(path: &Path, rotation: &Rotation, now: Timestamp) -> io::Result<()> {
    for (at, (time, file)) in older(path)?.into_iter().enumerate() {
        let too_many = rotation.files_max.is_some_and(|max| at >= max);
        let age = Duration::try_from(now.duration_since(time)).unwrap_or_default();
        if too_many || rotation.age_max.is_some_and(|max| age > max) {
            fs::remove_file(&file)?;
        } else if rotation.compress && file.extension().is_none_or(|end| end != "gz") {
            pack(&file)?;
        }
    }
    Ok(())
}

fn pack(file: &Path) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".gz");
    let packed =
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(name)?;
    let mut encoder = flate2::write::GzEncoder::new(packed, flate2::Compression::default());
    io::copy(&mut File::open(file)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::remove_file(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use longshore_base::clock::FakeClock;
    use serde_json::json;

    use super::*;

    fn event(number: u64) -> Vec<Event> {
        vec![Event(json!({"auditID": number.to_string()}).as_object().cloned().unwrap_or_default())]
    }

    fn names(dir: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.expect("an entry").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = fs::read_dir(dir).expect("a directory").map(name).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn long_files_become_older_ones_which_go_in_the_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("logs/audit.log");
        let clock = FakeClock::at("2026-01-01T00:00:00Z".parse().expect("a time"));
        // Each line is longer than a half of this.
        let rotation = Rotation {
            bytes_max: 100,
            age_max: Some(Duration::from_secs(2 * 86_400)),
            files_max: Some(2),
            compress: false,
        };
        let open = |rotation| {
            Log::file(&path, Format::Json, Some(rotation), Arc::new(clock.clone())).expect("a log")
        };
        let log = open(rotation);
        let folder = path.parent().expect("a folder");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(folder).expect("a folder").permissions().mode() & 0o777, 0o700);
        fs::write(folder.join("audit-notes.log"), "kept").expect("a file");
        for number in 0..4 {
            log.write(event(number)).await.expect("written");
            clock.advance(Duration::from_millis(1500));
        }
        assert_eq!(
            names(folder),
            [
                "audit-2026-01-01T00-00-03.000.log",
                "audit-2026-01-01T00-00-04.500.log",
                "audit-notes.log",
                "audit.log",
            ]
        );
        let present = fs::read_to_string(&path).expect("a file");
        assert_eq!(
            present,
            "{\"apiVersion\":\"audit.k8s.io/v1\",\"auditID\":\"3\",\"kind\":\"Event\"}\n"
        );
        clock.advance(Duration::from_secs(3 * 86_400));
        // A log that somebody has taken away begins again.
        fs::remove_file(&path).expect("it is there");
        log.write(event(4)).await.expect("written");
        assert_eq!(names(folder), ["audit-notes.log", "audit.log"]);
        // A log that was there before goes on.
        let log = open(Rotation { compress: true, ..rotation });
        log.write(event(5)).await.expect("written");
        assert_eq!(
            names(folder),
            ["audit-2026-01-04T00-00-06.000.log.gz", "audit-notes.log", "audit.log",]
        );
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_written_says_so() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Arc::new(FakeClock::at(Timestamp::UNIX_EPOCH));
        assert!(Log::file(dir.path(), Format::Json, None, clock.clone()).is_err());
        let log = Log::file(Path::new("/dev/full"), Format::Legacy, None, clock).expect("opened");
        let why = log.write(event(1)).await.expect_err("it is full");
        assert!(why.contains("No space left"), "{why}");
    }
}
