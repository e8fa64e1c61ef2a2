/** The part of the agent that tells what happens to files, as the kernel tells it by inotify(7). */
export const WATCH = String.raw`
my ($IN_MODIFY, $IN_ATTRIB, $IN_MOVED_FROM, $IN_MOVED_TO, $IN_CREATE, $IN_DELETE, $IN_DELETE_SELF, $IN_MOVE_SELF) = map { 1 << $_ } 1, 2, 6 .. 11;
my ($IN_UNMOUNT, $IN_Q_OVERFLOW, $IN_IGNORED, $IN_ONLYDIR, $IN_DONT_FOLLOW, $IN_EXCL_UNLINK, $IN_ISDIR) = map { 1 << $_ } 13 .. 15, 24 .. 26, 30;
my $IN_CHANGES = $IN_MODIFY | $IN_ATTRIB | $IN_MOVED_FROM | $IN_MOVED_TO | $IN_CREATE | $IN_DELETE;
my $IN_GONE = $IN_DELETE_SELF | $IN_MOVE_SELF | $IN_UNMOUNT;
my ($IN_NONBLOCK, $IN_CLOEXEC) = (04000, 02000000);
my $PAIR_S = 0.05;            # how long the other half of a rename is waited for
my $PAIR_EVENTS = 64;         # and among how many that came after the first half it is looked for
my $MODIFY_S = 0.1;           # several changes of one file within this time are one

sub inotify {
  my ($call, @args) = @_;
  my $number = $CALLS->{"inotify_$call"} or give_up('unsupported_by_backend', 'Files cannot be watched on this kind of machine.');
  return syscall $number, @args;
}

# 'told': what is to be sent. 'paths': of directories by their number; 'wds' the other way round; they are relative to 'real'.
# 'found': what was told because it was there, so that the kernel's own word for it is not passed on.
sub watch_files {
  my ($c, $path, $is_recursive) = @_;
  stat $path or give_up(code_of_errno(), '');
  my $is_folder = -d _;
  require Cwd;
  my $real = Cwd::realpath($path) // give_up(code_of_errno(), '');
  my $fd = inotify('init1', $IN_NONBLOCK | $IN_CLOEXEC);
  refuse_watch() if $fd < 0;
  open(my $fh, '<&=', $fd) or give_up('internal', "inotify: $!");
  my ($folder, $name) = parts_of($real);
  my $w = {
    c => $c, fh => $fh, fd => $fd, path => trimmed($path), real => $real eq '/' ? '' : $real, name => $name, is_folder => $is_folder,
    is_recursive => $is_recursive, parent => -1, told => '', events => [], paths => {}, wds => {}, found => {}, modified => {},
  };
  # That it goes away, and what becomes of a file, is seen from the directory that holds it.
  if (defined $folder) {
    my $mask = $is_folder ? $IN_DELETE | $IN_MOVED_FROM | $IN_MOVED_TO : $IN_CHANGES;
    $w->{parent} = inotify('add_watch', $fd, "$folder", $mask | $IN_GONE | $IN_ONLYDIR);
    refuse_watch() if $w->{parent} < 0;
  }
  if ($is_folder) {
    watch_tree($w, '', 0);
    refuse_watch() unless %{$w->{paths}};
  }
  lstat $real or give_up(code_of_errno(), '');
  tell_of($w, 'ready', $w->{path});
  until ($w->{is_over}) {
    tell_modified($w);
    send_bytes($c, $w->{told}) if length $w->{told};
    $w->{told} = '';
    wait_for_changes($w, %{$w->{modified}} ? $MODIFY_S : undef);
    while (!$w->{is_over} && (my $event = shift @{$w->{events}})) { take_change($w, $event) }
  }
  tell_modified($w, 1);
  tell_of($w, 'remove', $w->{path});
  send_bytes($c, $w->{told} . pack 'a1 N', 'z', 0);
}

sub refuse_watch {
  give_up('unsupported_by_backend', 'The kernel of the sandbox does not tell what happens to files.') if $!{ENOSYS};
  give_up('conflict', 'The kernel of the sandbox watches no more directories at a time.') if $!{ENOSPC} || $!{EMFILE} || $!{ENFILE};
  give_up(code_of_errno(), '');
}

sub tell_of { my ($w, $event, @paths) = @_; $w->{told} .= pack 'a1 N/a*', 'v', pack '(N/a*)*', $event, map { shown($_) } @paths }

# The path of a file below, as the client knows it.
sub path_in { my ($w, $file) = @_; return length $file ? ($w->{path} eq '/' ? '' : $w->{path}) . "/$file" : $w->{path} }

sub tell_modified {
  my ($w, $is_last) = @_;
  my $modified = $w->{modified};
  for my $file (sort { $modified->{$a} <=> $modified->{$b} } keys %$modified) {
    last if !$is_last && $modified->{$file} > now();
    delete $modified->{$file};
    tell_of($w, 'modify', path_in($w, $file));
  }
}

sub tell_created {
  my ($w, $file, $is_folder) = @_;
  return if delete $w->{found}{$file};
  tell_modified($w, 1) if exists $w->{modified}{$file};
  tell_of($w, 'create', path_in($w, $file));
  watch_tree($w, $file, 1) if $is_folder && $w->{is_recursive};
}

sub tell_removed {
  my ($w, $file) = @_;
  delete $w->{modified}{$file};
  delete $w->{found}{$file};
  tell_of($w, 'remove', path_in($w, $file));
  for my $gone (below($w, $file)) {
    my $wd = delete $w->{wds}{$gone};
    delete $w->{paths}{$wd};
    inotify('rm_watch', $w->{fd}, $wd);
  }
}

sub tell_renamed {
  my ($w, $from, $to, $is_folder) = @_;
  tell_modified($w, 1);
  delete @{$w->{found}}{$from, $to};
  tell_of($w, 'rename', path_in($w, $to), path_in($w, $from));
  return unless $is_folder && $w->{is_recursive};
  return watch_tree($w, $to, 1) unless exists $w->{wds}{$from};
  for my $old (below($w, $from)) {
    my $wd = delete $w->{wds}{$old};
    my $new = $to . substr $old, length $from;
    ($w->{paths}{$wd}, $w->{wds}{$new}) = ($new, $wd);
  }
}

sub below { my ($w, $file) = @_; return grep { $_ eq $file || index($_, "$file/") == 0 } keys %{$w->{wds}} }

# Watches the directory, and with 'is_recursive' those below. What is in it is told as new where it is.
sub watch_tree {
  my ($w, $top, $is_new) = @_;
  my @todo = ($top);
  while (defined(my $folder = shift @todo)) {
    my $path = "$w->{real}/$folder";
    my $wd = inotify('add_watch', $w->{fd}, $path, $IN_CHANGES | $IN_GONE | $IN_ONLYDIR | $IN_DONT_FOLLOW | $IN_EXCL_UNLINK);
    if ($wd < 0) {
      next unless $!{ENOSPC};
      refuse_watch() unless $is_new;
      tell_of($w, 'overflow');
      next;
    }
    my $before = $w->{paths}{$wd};
    delete $w->{wds}{$before} if defined $before;
    ($w->{paths}{$wd}, $w->{wds}{$folder}) = ($folder, $wd);
    next unless $w->{is_recursive};
    opendir(my $dh, $path) or next;
    while (defined(my $name = readdir $dh)) {
      next if $name eq '.' || $name eq '..';
      my $file = length $folder ? "$folder/$name" : $name;
      if ($is_new) { tell_of($w, 'create', path_in($w, $file)); $w->{found}{$file} = 1 }
      push @todo, $file if lstat "$w->{real}/$file" and -d _;
    }
  }
}

# Takes in what there is, waiting up to '$patience' for the first of it, or for the client to go.
sub wait_for_changes {
  my ($w, $patience) = @_;
  return if read_changes($w);
  # All that was under way when directories were looked through has come by now.
  $w->{found} = {} unless @{$w->{events}};
  my $r = '';
  vec($r, fileno $_, 1) = 1 for $w->{fh}, $w->{c}{fh};
  select $r, undef, undef, $patience;
  if (vec($r, fileno $w->{c}{fh}, 1)) { POSIX::_exit(0) unless sysread $w->{c}{fh}, my $rest, 4096 }
  read_changes($w);
}

sub read_changes {
  my ($w) = @_;
  my $has_read = 0;
  # As many at a time as are kept easily.
  while (@{$w->{events}} < 32_768 && sysread $w->{fh}, my $bytes, 1 << 16) {
    $has_read = 1;
    while (length $bytes >= 16) {
      my ($wd, $mask, $cookie, $length) = unpack 'l L L L', $bytes;
      push @{$w->{events}}, { wd => $wd, mask => $mask, cookie => $cookie, name => unpack 'Z*', substr $bytes, 16, $length };
      substr $bytes, 0, 16 + $length, '';
    }
  }
  return $has_read;
}

sub take_change {
  my ($w, $event) = @_;
  my ($mask, $name) = @$event{qw(mask name)};
  return start_anew($w) if $mask & $IN_Q_OVERFLOW;
  if ($event->{wd} == $w->{parent}) {
    if ($mask & $IN_GONE) { $w->{is_over} = 1 }
    elsif ($name eq $w->{name}) {
      if ($mask & ($IN_DELETE | $IN_MOVED_FROM) || $w->{is_folder}) { $w->{is_over} = 1 }
      else { $w->{modified}{''} //= now() + $MODIFY_S }
    }
    return;
  }
  my $folder = $w->{paths}{$event->{wd}} // return;
  if (!length $name) {
    if ($mask & $IN_IGNORED) { delete $w->{paths}{$event->{wd}}; delete $w->{wds}{$folder} }
    return if length $folder;
    if ($mask & $IN_GONE) { $w->{is_over} = 1 }
    elsif ($mask & $IN_ATTRIB) { $w->{modified}{''} //= now() + $MODIFY_S }
    return;
  }
  my $file = length $folder ? "$folder/$name" : $name;
  my $is_folder = $mask & $IN_ISDIR;
  if ($mask & ($IN_MODIFY | $IN_ATTRIB)) { $w->{modified}{$file} //= now() + $MODIFY_S }
  elsif ($mask & ($IN_CREATE | $IN_MOVED_TO)) { tell_created($w, $file, $is_folder) }
  elsif ($mask & $IN_DELETE) { tell_removed($w, $file) }
  elsif ($mask & $IN_MOVED_FROM) {
    my $to = arrival_of($w, $event->{cookie});
    if (defined $to) { tell_renamed($w, $file, $to, $is_folder) } else { tell_removed($w, $file) }
  }
}

# Where what was moved has gone, within what is watched.
sub arrival_of {
  my ($w, $cookie) = @_;
  for my $is_last (0, 1) {
    my $events = $w->{events};
    my $last = $#$events < $PAIR_EVENTS ? $#$events : $PAIR_EVENTS;
    for my $at (0 .. $last) {
      my $one = $events->[$at];
      next unless $one->{cookie} == $cookie && $one->{mask} & $IN_MOVED_TO;
      my $folder = $w->{paths}{$one->{wd}} // return;
      splice @$events, $at, 1;
      return length $folder ? "$folder/$one->{name}" : $one->{name};
    }
    return if $is_last || $last == $PAIR_EVENTS;
    my $r = '';
    vec($r, $w->{fd}, 1) = 1;
    select $r, undef, undef, $PAIR_S;
    read_changes($w);
  }
}

sub start_anew {
  my ($w) = @_;
  @$w{qw(paths wds found modified events)} = ({}, {}, {}, {}, []);
  tell_of($w, 'overflow');
  return $w->{is_over} = 1 unless lstat(length $w->{real} ? $w->{real} : '/');
  watch_tree($w, '', 0) if $w->{is_folder};
}
`;
