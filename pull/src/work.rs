//! What a thread of a pull does: take jobs, try them, write down what became of them.

use super::client::Client;
use super::disk::concerns_one_name;
use super::error::Error;
use super::fault::Fault;
use super::fetch::{Trouble, Want, attempt};
use super::item::Task;
use super::part::Part;
use super::place::sample_name;
use super::queue::{Job, Queue};
use super::status::{Log, Outcome, Status};
use super::{Folder, Settings, Watch, backoff, local, whole_tar};

/// The most bytes of a list's sample, unless the settings say otherwise.
const SAMPLE_CAP: u64 = 1 << 30;

/// What the threads share.
pub(super) struct Work<'a> {
    pub folder: &'a Folder,
    pub settings: &'a Settings,
    pub client: &'a Client,
    pub queue: Queue<'a>,
    pub log: &'a Log,
    pub watch: &'a dyn Watch,
}

impl Work<'_> {
    /// Work until nothing is left. An error of the disk stops the other threads too.
    pub fn run(&self) -> Result<(), Error> {
        let result = self.jobs();
        if result.is_err() {
            self.queue.stop();
        }
        result
    }

    fn jobs(&self) -> Result<(), Error> {
        while let Some(mut job) = self.queue.next()? {
            job.tries += 1;
            let status = match self.attempt(&mut job) {
                Ok(status) => status,
                Err(Trouble::Disk(error)) if concerns_one_name(&error) => {
                    self.failed(&job, Fault::last(Outcome::Invalid, format!("it cannot be stored: {error}")))
                }
                Err(Trouble::Disk(error)) => {
                    return Err(Error::disk(&self.folder.root)(error));
                }
                Err(Trouble::Fault(fault)) => {
                    let mut spent = job.spent;
                    match backoff::pause(self.settings, job.key, &mut spent, &fault) {
                        Some(pause) => {
                            job.spent = spent;
                            self.queue.again(job, pause);
                            continue;
                        }
                        None => self.failed(&job, fault),
                    }
                }
            };
            self.log.append(&status)?;
            self.watch.settled(Some(&status));
        }
        Ok(())
    }

    fn failed(&self, job: &Job, fault: Fault) -> Status {
        let tries = if matches!(job.item.task, Task::Bad { .. }) { 0 } else { job.tries };
        Status { http: fault.http, tries, ..Status::failed(&job.item.url, fault.outcome, fault.reason) }
    }

    fn attempt(&self, job: &mut Job) -> Result<Status, Trouble> {
        let brought = |bytes| self.watch.brought(bytes);
        let item = &job.item;
        let open = || Part::open(&self.folder.parts(), job.key).map_err(Trouble::Disk);
        let (robots, cap, to) = match &item.task {
            Task::Bad { outcome, reason } => return Err(Fault::last(*outcome, reason).into()),
            Task::Local { from, to, tar } => {
                if let Some(had) = job.had.take_if(|had| local::is_still(from.as_ref(), had)) {
                    return Ok(had);
                }
                let place = self.folder.root.join(to);
                let copied = local::take(from.as_ref(), &place, *tar, self.settings.link, open()?, &brought)?;
                return Ok(self.arrived(job, to.clone(), copied.bytes, copied.sha256, None));
            }
            Task::Sample => (true, self.settings.max_bytes.or(Some(SAMPLE_CAP)), None),
            Task::Tar { to } => (true, self.settings.max_bytes, Some(to)),
            Task::Hub { to } => (false, self.settings.max_bytes, Some(to)),
        };
        let Some(url) = &job.url else {
            return Err(Fault::last(Outcome::Invalid, "its address is not one").into());
        };
        let want = Want {
            url,
            cap,
            bytes: item.bytes,
            sha256: item.sha256.as_deref(),
            robots,
            may_be_empty: matches!(item.task, Task::Hub { .. }),
        };
        let mut part = open()?;
        let timeout = self.settings.timeout;
        if let Err(trouble) = attempt(self.client, &want, &mut part, timeout, &mut job.furthest, &brought) {
            if part.resumable().is_none() {
                part.discard().map_err(Trouble::Disk)?;
            }
            return Err(trouble);
        }
        if let Task::Tar { .. } = item.task
            && let Some(why) = whole_tar::fault(part.file()).map_err(Trouble::Disk)?
        {
            part.discard().map_err(Trouble::Disk)?;
            return Err(Fault::last(Outcome::Corrupt, why).with_http(200).into());
        }
        let to = to.cloned().unwrap_or_else(|| sample_name(job.key, &item.url, part.head()));
        let (bytes, sha256) = (part.len(), part.sha256());
        part.finish(&self.folder.root.join(&to)).map_err(Trouble::Disk)?;
        Ok(self.arrived(job, to, bytes, sha256, Some(200)))
    }

    fn arrived(&self, job: &Job, file: String, bytes: u64, sha256: String, http: Option<u16>) -> Status {
        Status {
            url: job.item.url.clone(),
            outcome: Outcome::Ok,
            reason: None,
            file: Some(file),
            bytes: Some(bytes),
            sha256: Some(sha256),
            http,
            tries: job.tries,
        }
    }
}
