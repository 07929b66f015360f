//! Slack as a receiver.
//!
//! See <https://prometheus.io/docs/alerting/latest/configuration/#slack_config>.

use crate::{
    config::units::{Address, Secret, Span},
    http_client::HttpClient,
    yaml::{Fields, Record},
};

/// A field of a message in Slack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlackField {
    /// Its title.
    pub title: String,
    /// Its text.
    pub value: String,
    /// Whether it may stand beside others.
    pub short: Option<bool>,
}

impl Record for SlackField {
    const TYPE: &'static str = "config.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("title", &mut self.title);
        fields.field("value", &mut self.value);
        fields.field("short", &mut self.short);
    }

    fn check(&mut self) -> Result<(), String> {
        for (text, name) in [(&self.title, "title"), (&self.value, "value")] {
            if text.is_empty() {
                return Err(format!("missing {name} in Slack field configuration"));
            }
        }
        Ok(())
    }
}

/// A question before an action.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlackConfirm {
    /// The question.
    pub text: String,
    /// Its title.
    pub title: String,
    /// Yes.
    pub ok_text: String,
    /// No.
    pub dismiss_text: String,
}

impl Record for SlackConfirm {
    const TYPE: &'static str = "config.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("text", &mut self.text);
        fields.field("title", &mut self.title);
        fields.field("ok_text", &mut self.ok_text);
        fields.field("dismiss_text", &mut self.dismiss_text);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.text.is_empty() { Err("missing text in Slack confirmation configuration".to_owned()) } else { Ok(()) }
    }
}

/// A button or menu of a message in Slack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlackAction {
    /// `button` and the like.
    pub kind: String,
    /// What stands on it.
    pub text: String,
    /// Where it leads.
    pub url: String,
    /// How it looks.
    pub style: String,
    /// What Slack calls it.
    pub name: String,
    /// What it sends.
    pub value: String,
    /// What is asked first.
    pub confirm: Option<SlackConfirm>,
}

impl Record for SlackAction {
    const TYPE: &'static str = "config.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("type", &mut self.kind);
        fields.field("text", &mut self.text);
        fields.field("url", &mut self.url);
        fields.field("style", &mut self.style);
        fields.field("name", &mut self.name);
        fields.field("value", &mut self.value);
        fields.field("confirm", &mut self.confirm);
    }

    fn check(&mut self) -> Result<(), String> {
        for (text, name) in [(&self.kind, "type"), (&self.text, "text")] {
            if text.is_empty() {
                return Err(format!("missing {name} in Slack action configuration"));
            }
        }
        if self.url.is_empty() && self.name.is_empty() {
            return Err("missing name or url in Slack action configuration".to_owned());
        }
        if !self.url.is_empty() {
            (self.name, self.value, self.confirm) = (String::new(), String::new(), None);
        }
        Ok(())
    }
}

/// Slack.
#[derive(Clone, Debug, PartialEq)]
pub struct Slack {
    /// Whether ends of alerts are sent.
    pub send_resolved: bool,
    /// How requests are made.
    pub http_config: Option<HttpClient>,
    /// The incoming webhook.
    pub api_url: Secret,
    /// A file with it.
    pub api_url_file: String,
    /// The token of an app.
    pub app_token: Secret,
    /// A file with it.
    pub app_token_file: String,
    /// Where apps post.
    pub app_url: Address,
    /// The channel.
    pub channel: String,
    /// Who posts.
    pub username: String,
    /// The colour of the bar.
    pub color: String,
    /// The title.
    pub title: String,
    /// Where the title leads.
    pub title_link: String,
    /// What stands before.
    pub pretext: String,
    /// The text.
    pub text: String,
    /// The text outside of the attachment.
    pub message_text: String,
    /// Fields.
    pub slack_fields: Vec<SlackField>,
    /// Whether fields may stand beside others.
    pub short_fields: bool,
    /// What stands below.
    pub footer: String,
    /// What is shown where there is no room.
    pub fallback: String,
    /// What actions are known by.
    pub callback_id: String,
    /// The picture of who posts, as an emoji.
    pub icon_emoji: String,
    /// The picture of who posts.
    pub icon_url: String,
    /// A picture.
    pub image_url: String,
    /// A small picture.
    pub thumb_url: String,
    /// Whether names become links.
    pub link_names: bool,
    /// Which parts have Slack's markup.
    pub mrkdwn_in: Vec<String>,
    /// Buttons and menus.
    pub actions: Vec<SlackAction>,
    /// Whether a message of a group is changed instead of sending another.
    pub update_message: bool,
    /// How long a request may take; as long as it wants if zero.
    pub timeout: Span,
}

impl Default for Slack {
    fn default() -> Self {
        let named = |name: &str| format!("{{{{ template \"slack.default.{name}\" . }}}}");
        Self {
            send_resolved: false,
            http_config: None,
            api_url: Secret::default(),
            api_url_file: String::new(),
            app_token: Secret::default(),
            app_token_file: String::new(),
            app_url: Address::default(),
            channel: String::new(),
            username: named("username"),
            color: named("color"),
            title: named("title"),
            title_link: named("titlelink"),
            pretext: named("pretext"),
            text: named("text"),
            message_text: String::new(),
            slack_fields: Vec::new(),
            short_fields: false,
            footer: named("footer"),
            fallback: named("fallback"),
            callback_id: named("callbackid"),
            icon_emoji: named("iconemoji"),
            icon_url: named("iconurl"),
            image_url: String::new(),
            thumb_url: String::new(),
            link_names: false,
            mrkdwn_in: Vec::new(),
            actions: Vec::new(),
            update_message: false,
            timeout: Span::default(),
        }
    }
}

impl Record for Slack {
    const TYPE: &'static str = "config.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("send_resolved", &mut self.send_resolved);
        fields.field("http_config", &mut self.http_config);
        fields.field("api_url", &mut self.api_url);
        fields.field("api_url_file", &mut self.api_url_file);
        fields.field("app_token", &mut self.app_token);
        fields.field("app_token_file", &mut self.app_token_file);
        fields.field("app_url", &mut self.app_url);
        fields.field("channel", &mut self.channel);
        fields.field("username", &mut self.username);
        fields.field("color", &mut self.color);
        fields.field("title", &mut self.title);
        fields.field("title_link", &mut self.title_link);
        fields.field("pretext", &mut self.pretext);
        fields.field("text", &mut self.text);
        fields.field("message_text", &mut self.message_text);
        fields.field("fields", &mut self.slack_fields);
        fields.always("short_fields", &mut self.short_fields);
        fields.field("footer", &mut self.footer);
        fields.field("fallback", &mut self.fallback);
        fields.field("callback_id", &mut self.callback_id);
        fields.field("icon_emoji", &mut self.icon_emoji);
        fields.field("icon_url", &mut self.icon_url);
        fields.field("image_url", &mut self.image_url);
        fields.field("thumb_url", &mut self.thumb_url);
        fields.always("link_names", &mut self.link_names);
        fields.field("mrkdwn_in", &mut self.mrkdwn_in);
        fields.field("actions", &mut self.actions);
        fields.always("update_message", &mut self.update_message);
        fields.always("timeout", &mut self.timeout);
    }

    fn check(&mut self) -> Result<(), String> {
        let url = [!self.api_url.0.is_empty(), !self.api_url_file.is_empty()];
        let token = [!self.app_token.0.is_empty(), !self.app_token_file.is_empty()];
        let wrong = if url == [true, true] {
            "api_url & api_url_file"
        } else if token == [true, true] {
            "app_token & app_token_file"
        } else if url.contains(&true) && token.contains(&true) {
            "api_url/api_url_file & app_token/app_token_file"
        } else {
            if self.update_message && self.api_url.0 != "https://slack.com/api/chat.postMessage" {
                return Err("update_message can only be used with bot tokens. api_url must be set to https://slack.com/api/chat.postMessage".to_owned());
            }
            return Ok(());
        };
        Err(format!("at most one of {wrong} must be configured"))
    }
}
