/** The part of the agent that makes directories, moves and removes. */
export const CHANGES = String.raw`
sub code_of_change {
  return 'file_exists' if $!{EEXIST};
  return 'directory_not_empty' if $!{ENOTEMPTY};
  return 'is_a_directory' if $!{EISDIR};
  return 'invalid_request' if $!{EINVAL};
  return code_of_errno();
}

sub make_directory {
  my ($c, $path, $with_parents) = @_;
  my $folder = trimmed($path);
  if ($with_parents) {
    if (make_directories($folder, 0755)) {
      my $errno = $! + 0;
      give_up('file_exists', '') if lstat $folder;
      $! = $errno;
      give_up(code_of_change(), '');
    }
  } else {
    mkdir $folder, 0755 or give_up(code_of_change(), '');
  }
  send_now($c, 'l', info_of($folder, "$folder/") // give_up(code_of_errno(), ''));
}

# The path of what can be moved or removed, without slashes at its end, which only a directory may have.
sub entry_of {
  my ($path, $what) = @_;
  my $entry = trimmed($path);
  give_up('permission_denied', "$what is the root directory.") if $entry =~ m{^/+\z};
  give_up('invalid_request', "$what must not end in . or ..") if $entry =~ m{/\.\.?\z};
  give_up(code_of_errno(), '') if $entry ne $path && !-d $path && lstat $entry;
  return $entry;
}

sub parts_of { my ($path) = @_; return $path =~ m{^(.*/)([^/]+)\z}s }
sub is_same_file { my ($one, $other) = @_; return @$one && @$other && "@$one[0, 1]" eq "@$other[0, 1]" }
sub holds_something { my ($path) = @_; opendir(my $dh, $path) or return 0; return !!grep { !/^\.\.?\z/ } readdir $dh }

sub move_file {
  my ($c, $from, $to) = @_;
  ($from, $to) = (entry_of($from, 'from'), entry_of($to, 'to'));
  my @from = lstat $from or give_up(code_of_errno(), '');
  my $is_folder = -d _;
  my ($folder, $name) = parts_of($to);
  my ($old_folder, $old_name) = parts_of($from);
  my $there = $folder;
  while (!-d $there) {
    give_up('not_a_directory', '') if lstat trimmed($there);
    $there =~ s{[^/]+/+\z}{};
  }
  give_up('invalid_request', 'A directory cannot go into itself.') if $is_folder && is_at_or_below($there, \@from);
  if (my @to = lstat $to) {
    my $is_onto_folder = -d _;
    if (is_same_file(\@to, \@from)) {
      # One file by two names, which a rename would leave as they are; or it goes where it is.
      my $is_itself = $name eq $old_name && is_same_file([stat $folder], [stat $old_folder]);
      $is_itself || unlink $from or give_up(code_of_change(), '');
      return send_now($c, 'z', '');
    }
    give_up('is_a_directory', '') if $is_onto_folder && !$is_folder;
    give_up('not_a_directory', '') if $is_folder && !$is_onto_folder;
    give_up('directory_not_empty', '') if $is_onto_folder && holds_something($to);
  }
  give_up(code_of_errno(), '') if !-d $folder && make_directories($folder, 0755);
  if (!rename $from, $to) {
    give_up(code_of_change(), '') unless $!{EXDEV};
    move_by_copy($from, $to, $folder, $old_folder, $old_name);
  }
  send_now($c, 'z', '');
}

sub is_at_or_below {
  my ($path, $folder) = @_;
  for (;;) {
    my @here = stat $path or return 0;
    return 1 if is_same_file(\@here, $folder);
    my @above = stat "$path/.." or return 0;
    return 0 if is_same_file(\@here, \@above);
    $path .= '/..';
  }
}

# To another filesystem, or from the layers of an image. It is whole before it is there.
sub move_by_copy {
  my ($from, $to, $folder, $old_folder, $old_name) = @_;
  my $name = '.sandbar-' . unpack 'H*', random_bytes(12);
  my $done = eval {
    copy_tree($from, "$folder$name");
    rename "$folder$name", $to or give_up(code_of_change(), '');
    1;
  };
  my $why = $@;
  eval { remove_in($folder, $name) };
  die $why unless $done;
  remove_in($old_folder, $old_name);
}

sub copy_tree {
  my ($from, $to) = @_;
  my @from = lstat $from or give_up(code_of_errno(), '');
  if (-l _) {
    symlink readlink($from), $to or give_up(code_of_errno(), '');
    POSIX::lchown(@from[4, 5], $to);
    return;
  }
  if (-d _) {
    mkdir $to, 0700 or give_up(code_of_errno(), '');
    opendir(my $dh, $from) or give_up(code_of_errno(), '');
    for my $name (grep { !/^\.\.?\z/ } readdir $dh) { copy_tree("$from/$name", "$to/$name") }
  } elsif (-f _) {
    copy_file($from, $to);
  } elsif (-p _) {
    POSIX::mkfifo($to, 0600) or give_up(code_of_errno(), '');
  } else {
    give_up('permission_denied', 'A device or a socket cannot be moved to another filesystem.');
  }
  chown @from[4, 5], $to;
  chmod S_IMODE($from[2]), $to;
  utime @from[8, 9], $to;
}

sub copy_file {
  my ($from, $to) = @_;
  sysopen(my $in, $from, O_RDONLY | O_NOFOLLOW | O_NONBLOCK) or give_up(code_of_errno(), '');
  sysopen(my $out, $to, O_WRONLY | O_CREAT | O_EXCL, 0600) or give_up(code_of_errno(), '');
  pour_into($in, $out);
  close $out or give_up(code_of_errno(), '');
}

sub remove_file {
  my ($c, $path, $is_recursive) = @_;
  my $entry = entry_of($path, 'The path');
  lstat $entry or give_up(code_of_errno(), '');
  if (!-d _) { unlink $entry or give_up(code_of_change(), '') }
  elsif ($is_recursive) { remove_in(parts_of($entry)) }
  else { rmdir $entry or give_up(code_of_change(), '') }
  send_now($c, 'z', '');
}

sub remove_in {
  my ($folder, $name) = @_;
  chdir $folder or give_up(code_of_errno(), '');
  remove_tree($name, stat '.');
}

# What '$name' is in the directory that the process is in, which is '@here', and all below. It goes down step by step: what
# becomes a link meanwhile leads nowhere else.
sub remove_tree {
  my ($name, @here) = @_;
  my @found = lstat $name or return;
  if (!-d _) { unlink $name or $!{ENOENT} or give_up(code_of_change(), ''); return }
  give_up('permission_denied', 'A filesystem is mounted there.') if $found[0] != $here[0];
  chdir $name or give_up(code_of_errno(), '');
  my @inside = stat '.';
  give_up('permission_denied', 'It is moved meanwhile.') unless is_same_file(\@inside, \@found);
  opendir(my $dh, '.') or give_up(code_of_errno(), '');
  my @names = grep { !/^\.\.?\z/ } readdir $dh;
  closedir $dh;
  remove_tree($_, @inside) for @names;
  chdir '..' or give_up(code_of_errno(), '');
  give_up('permission_denied', 'It is moved meanwhile.') unless is_same_file([stat '.'], \@here);
  rmdir $name or $!{ENOENT} or give_up(code_of_change(), '');
}
`;
