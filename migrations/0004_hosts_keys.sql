ALTER TABLE `hosts` ADD `draining` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `hosts` ADD `key_version` integer DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE `hosts` ADD `oldest_key_version` integer DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE `hosts` ADD `seen_key_version` integer DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE `hosts` ADD `seen_key_at` integer;