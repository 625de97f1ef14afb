//! Following both topics into a [`View`]: to the end, then live.

use crate::endpoint::{LedgerEvent, LedgerFollower, LedgerReader, LedgerTopic, Result};
use crate::ledger::control::{ControlKey, ControlRecord};
use crate::ledger::view::View;

/// A live reading of the ledger. Dropping it ends the reading; the view stays as it is then.
pub struct Reading {
    view: View,
    control: Box<dyn LedgerFollower>,
    map: Box<dyn LedgerFollower>,
    control_behind: bool,
    map_behind: bool,
}

/// What a reading heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A control record.
    Control(ControlKey),
    /// An entry of the map topic.
    Map,
    /// One of the topics was read to where it ended when the reading began.
    End,
}

impl Reading {
    /// Begins to read both topics at once, into a new view.
    pub async fn start(store: &dyn LedgerReader) -> Result<Self> {
        let (control, map) =
            futures::future::try_join(store.follow(LedgerTopic::Control), store.follow(LedgerTopic::Map)).await?;
        Ok(Self { view: View::empty(), control, map, control_behind: true, map_behind: true })
    }

    /// What was heard so far.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Reads on until everything that was committed when the reading began is in the view.
    pub async fn to_the_end(&mut self) -> Result<()> {
        while self.control_behind || self.map_behind {
            self.next().await?;
        }
        Ok(())
    }

    /// Hears of the next change, live; waits for it. Cancel-safe. After an error the reading is spent: start another.
    ///
    /// # Errors
    /// Of the store; `Unsupported` or `Corrupt`, naming the key, for records this binary cannot understand.
    pub async fn next(&mut self) -> Result<Heard> {
        tokio::select! {
            biased;
            event = self.control.next() => match event? {
                LedgerEvent::Entry(entry) => {
                    let record = ControlRecord::from_entry(&entry)?;
                    let key = record.key();
                    self.view.apply([record]);
                    Ok(Heard::Control(key))
                }
                LedgerEvent::CaughtUp => {
                    self.control_behind = false;
                    Ok(Heard::End)
                }
            },
            event = self.map.next() => match event? {
                LedgerEvent::Entry(entry) => {
                    self.view.apply_map(entry)?;
                    Ok(Heard::Map)
                }
                LedgerEvent::CaughtUp => {
                    self.map_behind = false;
                    Ok(Heard::End)
                }
            },
        }
    }
}
