#!/usr/bin/perl
# Saves a VM with the QMP dialogue of os-autoinst, by nothing but Perl itself: SOCKET FILE
use strict;
use warnings;
use IO::Socket::UNIX;

my ($path, $file) = @ARGV;
$| = 1;
my $qmp = IO::Socket::UNIX->new(Peer => $path) or die "connecting to $path: $!";

# The next message that is no event.
sub reply {
    while (my $line = <$qmp>) {
        return $line unless $line =~ /"event":/;
    }
    die "the connection was lost";
}

sub ask {
    my ($command, $arguments) = @_;
    my $request = $arguments ? qq({"execute":"$command","arguments":$arguments}) : qq({"execute":"$command"});
    print $qmp "$request\r\n";
    my $reply = reply();
    die "$request: $reply" if $reply =~ /"error": *\{/;
    return $reply;
}

reply() =~ /"QMP"/ or die "no greeting";
ask('qmp_capabilities');
my $capabilities = join ',', map { qq({"capability":"$_","state":true}) } qw(events mapped-ram multifd);
ask('migrate-set-capabilities', qq({"capabilities":[$capabilities]}));
ask('migrate-set-parameters', '{"multifd-channels":2,"direct-io":true,"max-bandwidth":9223372036853727232}');
ask('stop');
ask('migrate', qq({"uri":"file:$file"}));
my $status = '';
while ($status ne 'completed') {
    select undef, undef, undef, 0.1;
    ($status) = ask('query-migrate') =~ /"status": *"([^"]+)"/;
    die "the migration is $status" if $status =~ /failed|cancelled/;
}
ask('cont');
print ask('query-status');
